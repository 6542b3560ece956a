from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from tests.unit.metrics.support import IDENTITY, make_step, published


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def names(folder: PageFolder) -> list[str]:
    return [page.header.identity.engine_name for page in folder.read().pages]


def test_a_folder_that_is_not_there_has_no_pages(tmp_path: Path) -> None:
    assert PageFolder(tmp_path / "missing").read().pages == ()


def test_pages_come_sorted_by_labels(tmp_path: Path) -> None:
    recorders = [Recorder(tmp_path, replace(IDENTITY, engine_name=name)) for name in ("b", "a", "c")]
    assert names(PageFolder(tmp_path)) == ["a", "b", "c"]
    assert len(recorders) == 3


def test_what_is_no_page_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    recorder = published(tmp_path)
    found = PageFolder(tmp_path).read()
    assert [page.path for page in found.pages] == [recorder.path]
    assert not found.skipped.total()


def test_damaged_pages_are_counted_by_reason_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.page").write_text("garbage")
    (tmp_path / "b.page").touch()
    recorder = published(tmp_path)
    folder = PageFolder(tmp_path)
    for _ in range(3):
        found = folder.read()
        assert found.skipped["garbage"] == found.skipped["truncated"] == 1
        assert [page.path for page in found.pages] == [recorder.path]
    assert len(caplog.records) == 2
    assert str(tmp_path / "a.page") in caplog.text


def test_a_damaged_page_that_recovers_and_breaks_again_is_logged_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = PageFolder(tmp_path)
    for _ in range(2):
        (tmp_path / "a.page").touch()
        folder.read()
        (tmp_path / "a.page").unlink()
        folder.read()
    assert len(caplog.records) == 2


def test_of_two_pages_with_the_same_labels_the_newest_start_wins(tmp_path: Path) -> None:
    old = Recorder(tmp_path, IDENTITY, clock=lambda: 1000.0)
    old.close()
    old.path.rename(tmp_path / "copy.page")
    new = Recorder(tmp_path, IDENTITY, clock=lambda: 2000.0)
    found = PageFolder(tmp_path, clock=lambda: 2001.0).read()
    assert [page.path for page in found.pages] == [new.path]
    assert found.skipped["superseded"] == 1


def test_a_dead_engine_is_reported_for_the_retention_then_expires(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    recorder = Recorder(tmp_path, IDENTITY, clock=clock)
    folder = PageFolder(tmp_path, retention_seconds=60.0, clock=clock)
    clock.now = 5000.0
    assert names(folder) == ["test"], "alive, however long idle"
    recorder.close()
    clock.now = 5060.0
    assert names(folder) == ["test"], "the retention runs from when it was last seen alive"
    clock.now = 5060.1
    assert names(folder) == []
    assert folder.read().skipped["expired"] == 1


def test_a_page_that_was_dead_before_the_exporter_came_expires_by_its_last_step(tmp_path: Path) -> None:
    with Recorder(tmp_path, IDENTITY, clock=lambda: 1000.0) as recorder:
        recorder.publish(make_step(1500.0))
    assert names(PageFolder(tmp_path, retention_seconds=60.0, clock=lambda: 1560.0)) == ["test"]
    assert names(PageFolder(tmp_path, retention_seconds=60.0, clock=lambda: 1561.0)) == []


def test_memory_of_engines_is_bounded_by_the_folder(tmp_path: Path) -> None:
    folder = PageFolder(tmp_path)
    for index in range(5):
        with Recorder(tmp_path, replace(IDENTITY, engine_name=str(index))) as recorder:
            folder.read()
        recorder.path.unlink()
    folder.read()
    assert not folder._last_sign
    assert not folder._reported


def test_summary_of_the_living(tmp_path: Path) -> None:
    Recorder(tmp_path, replace(IDENTITY, dp_rank=1), clock=lambda: 1.0).close()
    alive = [Recorder(tmp_path, replace(IDENTITY, dp_rank=rank), clock=lambda: 7.0) for rank in (2, 3)]
    alive[0].publish(make_step(9.0))
    found = PageFolder(tmp_path, clock=lambda: 10.0).read()
    assert (len(found.pages), found.num_up, found.last_step_timestamp) == (3, 2, 9.0)


def test_a_page_that_vanishes_during_the_scan_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "gone.page").symlink_to(tmp_path / "nowhere")
    assert PageFolder(tmp_path).read().skipped["unreadable"] == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_page_without_permission_is_unreadable(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    recorder.path.chmod(0)
    assert PageFolder(tmp_path).read().skipped["unreadable"] == 1
