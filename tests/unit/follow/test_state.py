from __future__ import annotations

import errno
import fcntl
import json
import stat
from pathlib import Path

import pytest

from hisparse_metrics.follow.follower import Follower, IntervalWaker
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.state import State, StateError, StateFile
from hisparse_metrics.follow.stdin import PipeSource
from hisparse_metrics.follow.watch import FileSource
from tests.unit.follow.support import append

OPTIONS = FollowOptions(scan_seconds=0.0)


def follower(folder: Path, pattern: str = "x.log") -> Follower:
    return Follower(
        [FileSource("log", [str(folder / pattern)], options=OPTIONS)], StateFile(folder / "state")
    )


def lines(follower: Follower) -> list[bytes]:
    return [line for batch in follower.poll() for line in batch.lines]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    assert file.load() is None
    file.save(State({"log": {"a": 1}}, {"count": 2}))
    assert file.load() == State({"log": {"a": 1}}, {"count": 2})
    assert stat.S_IMODE(file.path.stat().st_mode) & ~0o640 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_locked_file_is_refused_with_a_remedy_until_it_is_unlocked(tmp_path: Path) -> None:
    one, other = StateFile(tmp_path / "state"), StateFile(tmp_path / "state")
    one.lock()
    with pytest.raises(StateError, match=r"another process uses it; .*give each its own"):
        other.lock()
    one.save(State())
    with pytest.raises(StateError, match="another process uses it"):
        other.lock()
    one.unlock()
    other.lock()
    other.unlock()


def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    StateFile(tmp_path / "state").lock()
    assert "has no locks" in caplog.text


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b'{"version": 2}', b'{"version": 1, "extra": {}}']
)
def test_a_damaged_file_is_refused_with_a_remedy(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "state").write_bytes(text)
    with pytest.raises(StateError, match=r"state file .*/state: .*move it away"):
        StateFile(tmp_path / "state").load()


@pytest.mark.parametrize("position", [{}, {"patterns": [], "files": [1], "finished": [], "paths": []}])
def test_positions_of_another_form_are_refused(tmp_path: Path, position: dict[str, object]) -> None:
    StateFile(tmp_path / "state").save(State({"log": position}))
    with pytest.raises(StateError, match="log: "):
        follower(tmp_path)


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    file.save(State(extra={"count": 1}))
    (tmp_path / ".state.tmp").mkdir()
    with pytest.raises(StateError, match="must exist, be writable"):
        file.save(State(extra={"count": 2}))
    assert file.load() == State(extra={"count": 1})


def test_a_save_replaces_the_file_and_never_rewrites_it(tmp_path: Path) -> None:
    """Whoever is killed in the middle of a save leaves the last one."""
    file = StateFile(tmp_path / "state")
    file.save(State(extra={"count": 1}))
    with file.path.open() as before:
        file.save(State(extra={"count": 2}))
        assert json.load(before)["extra"] == {"count": 1}


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".state.tmp").symlink_to(tmp_path / "victim")
    StateFile(tmp_path / "state").save(State())
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_restart_neither_repeats_nor_skips(tmp_path: Path) -> None:
    append(tmp_path / "x.log", b"old\n")
    first = follower(tmp_path)
    append(tmp_path / "x.log", b"a\nhal")
    assert lines(first) == [b"a"]
    first.commit({"count": 1})
    append(tmp_path / "x.log", b"f\nb\n")
    assert lines(first) == [b"half", b"b"]  # counted, but never committed
    second = follower(tmp_path)
    assert second.extra == {"count": 1}
    assert lines(second) == [b"half", b"b"]


def test_what_came_before_the_first_commit_is_not_skipped(tmp_path: Path) -> None:
    append(tmp_path / "x.log", b"old\n")
    follower(tmp_path)
    append(tmp_path / "x.log", b"while nobody ran\n")
    assert lines(follower(tmp_path)) == [b"while nobody ran"]


def test_a_file_that_appears_while_nobody_runs_is_read_from_its_beginning(tmp_path: Path) -> None:
    follower(tmp_path, "*.log")
    append(tmp_path / "x.log", b"a\n")
    assert lines(follower(tmp_path, "*.log")) == [b"a"]


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same name"):
        Follower([PipeSource("x"), PipeSource("x")])


def test_a_state_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        Follower([], StateFile(tmp_path / "missing" / "state"))


def test_run_waits_only_when_there_was_nothing(tmp_path: Path) -> None:
    first = follower(tmp_path)
    seen: list[str] = []

    def write(seconds: float) -> None:
        seen.append(f"slept {seconds}")
        append(tmp_path / "x.log", b"a\n")

    first.run(
        lambda batches: seen.append(f"{len(batches)}") is None and len(seen) < 4, IntervalWaker(sleep=write)
    )
    assert seen == ["0", "slept 0.25", "1", "0"]
    assert json.loads((tmp_path / "state").read_text())["extra"] == {}
