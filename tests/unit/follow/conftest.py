from __future__ import annotations

from collections.abc import Iterator

import pytest

from hisparse_metrics.follow.watch import FileSource


@pytest.fixture(autouse=True)
def every_source_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A source keeps its files open until it is closed; what tests leave open would add up over a run."""
    made: list[FileSource] = []
    start = FileSource.__init__

    def noted(self: FileSource, *args: object, **options: object) -> None:
        start(self, *args, **options)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(FileSource, "__init__", noted)
    yield
    for source in made:
        source.close()
