from __future__ import annotations

from pathlib import Path

import pytest

from hisparse_metrics import catalogue, docs

REFERENCE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_reference_is_up_to_date() -> None:
    assert docs.main(["--check", str(REFERENCE)]) == 0


def test_every_metric_is_told_with_unit_help_and_question() -> None:
    rows = [line for line in docs.render().splitlines() if line.startswith("| `hisparse_")]
    for metric in catalogue.ALL:
        row = next(row for row in rows if row.startswith(f"| `{metric.name}` |"))
        assert metric.help in row
        assert metric.question in row
        assert f"| {metric.unit} |" in row


def test_a_stale_reference_fails_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.md"
    assert docs.main(["--check", str(path)]) == 1
    assert docs.main([str(path)]) == 0
    assert docs.main(["--check", str(path)]) == 0
    path.write_text(path.read_text().replace("tokens", "tokns", 1))
    capsys.readouterr()
    assert docs.main(["--check", str(path)]) == 1
    assert "tokns" in capsys.readouterr().out
