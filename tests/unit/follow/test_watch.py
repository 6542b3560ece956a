from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hisparse_metrics.follow.disk import Disk, Handle
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.watch import FileSource
from tests.unit.follow.support import Followed, append


def test_a_glob_picks_up_new_files_from_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"old\n")
    followed = Followed(tmp_path, "*.log")
    assert followed.lines() == []
    (tmp_path / "b.log").write_bytes(b"b\n")
    (tmp_path / "b.log.gz").write_bytes(b"compressed\n")
    append(tmp_path / "a.log", b"a\n")
    found = {batch.source: batch.lines for batch in followed.batches()}
    assert found == {str(tmp_path / "a.log"): [b"a"], str(tmp_path / "b.log"): [b"b"]}


@pytest.mark.parametrize(
    ("pattern", "up", "reason"),
    [
        ("*.log", True, "no file matches {0}/*.log"),
        ("[ab].log", True, "no file matches {0}/[ab].log"),
        ("a.log", False, "{0}/a.log: No such file or directory"),
    ],
)
def test_a_pattern_waits_for_what_may_come_and_a_named_file_is_missed(
    tmp_path: Path, pattern: str, up: bool, reason: str
) -> None:
    followed = Followed(tmp_path, pattern)
    followed.lines()
    status = followed.source.status()
    assert (status.up, status.reason) == (up, reason.format(tmp_path))


def test_two_names_of_one_file_count_it_once(tmp_path: Path) -> None:
    followed = Followed(tmp_path, "*.log", from_start=True)
    followed.log.write_bytes(b"a\n")
    (tmp_path / "y.log").symlink_to(followed.log)
    os.link(followed.log, tmp_path / "z.log")
    assert followed.lines() == [b"a"]


def test_a_poll_reads_no_more_than_it_was_told_and_takes_turns(tmp_path: Path) -> None:
    followed = Followed(tmp_path, "*.log", from_start=True)
    for name in "abc":
        (tmp_path / f"{name}.log").write_bytes(b"x" * 99 + b"\n" + name.encode() * 1_000_000 + b"\n")
    seen = [Path(batch.source).stem for _ in range(3) for batch in followed.batches(max_bytes=1 << 18)]
    assert sorted(seen) == ["a", "b", "c"]
    assert followed.source.status().bytes_read == 3 << 18
    assert followed.source.status().lag_bytes == 3 * 1_000_101 - (3 << 18)


def test_a_line_of_10_mb_in_a_file(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    followed.log.write_bytes(b"x" * 10_000_000 + b"\nnext \xff\xfe\n")
    batches = [batch for _ in range(40) for batch in followed.batches(max_bytes=1 << 18)]
    assert [len(line) for batch in batches for line in batch.lines] == [1 << 20, 7]
    assert [batch.cut for batch in batches] == [(0,)]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_opened_is_read_from_where_it_was_once_it_can(
    tmp_path: Path, code: int
) -> None:
    (tmp_path / "x.log").write_bytes(b"old\n")
    followed = Followed(tmp_path)
    followed.disk.open_error = code
    assert followed.lines() == []
    assert followed.source.status().reason == f"{followed.log}: {os.strerror(code)}"
    append(followed.log, b"new\n")
    followed.restart()
    followed.lines()
    followed.disk.open_error = 0
    assert followed.lines() == [b"new"]


def test_permission_lost_and_regained_across_a_rotation(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    followed.log.write_bytes(b"a\n")
    assert followed.lines() == [b"a"]
    followed.disk.open_error = errno.EACCES
    followed.log.rename(tmp_path / "x.log.1")
    assert followed.lines() == []
    followed.log.write_bytes(b"b\n")
    append(tmp_path / "x.log.1", b"late\n")
    assert followed.lines() == [b"late"]
    followed.disk.open_error = 0
    assert followed.lines() == [b"b"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give its rights up")
def test_permission_lost_and_regained_for_a_real_user(tmp_path: Path) -> None:
    """A process that gave up root's rights: the only one to whom a mode means something."""
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    log = tmp_path / "x.log"
    log.write_bytes(b"a\n")
    script = (
        "import os, sys\n"
        "from hisparse_metrics.follow.watch import FileSource\n"
        "from hisparse_metrics.follow.roster import FollowOptions\n"
        "os.setuid(65534)\n"
        "source = FileSource('x', [sys.argv[1]], options=FollowOptions(from_start=True, scan_seconds=0.0))\n"
        "for line in sys.stdin:\n"
        "    lines = [l.decode() for b in source.poll(1000) for l in b.lines]\n"
        "    print(lines, source.status().reason, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def poll() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        log.chmod(0o000)
        refused = poll()
        log.chmod(0o644)
        regained = poll()
        process.communicate()
    assert refused == f"[] {log}: Permission denied"
    assert regained == "['a']"


def test_a_stale_handle_is_opened_again_where_it_was_left(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    followed.log.write_bytes(b"a\nhal")
    assert followed.lines() == [b"a"]
    followed.disk.go_stale()
    append(followed.log, b"f\nb\n")
    assert followed.lines() == []
    assert "tale file handle" in followed.source.status().reason
    followed.disk.read_error = 0
    assert followed.lines() == [b"half", b"b"]
    assert followed.source.status().up


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make: object) -> None:
    followed = Followed(tmp_path)
    make(followed.log)  # type: ignore[operator]
    assert followed.lines() == []
    assert followed.source.status().reason.endswith(("Is a directory", "Not a regular file"))


@pytest.mark.timeout(20)
def test_a_named_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        Disk().open(str(tmp_path / "pipe"))


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    followed = Followed(tmp_path, "later/*.log")
    assert followed.lines() == []
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.log").write_bytes(b"a\n")
    assert followed.lines() == [b"a"]


def test_an_idle_file_costs_one_stat(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True, scan_seconds=1e9)
    followed.log.write_bytes(b"a\n")
    for _ in range(10):
        followed.lines()
    file = next(followed.source._roster.files())
    file._handle.read_at = None  # type: ignore[assignment]
    assert followed.lines() == []


def test_a_position_is_json_and_holds_no_text_of_the_log(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    followed.log.write_bytes(b"secret\n")
    followed.lines()
    assert "secret" not in json.dumps(followed.source.position())


def test_streams_differ_where_lines_do_not_continue_each_other(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    streams = []
    for text in (b"a\n", b"b\n"):
        followed.log.write_bytes(text)
        streams += [batch.stream for batch in followed.batches()]
    assert len(set(streams)) == 2


def test_files_added_by_a_new_pattern_start_at_their_end(tmp_path: Path) -> None:
    """A restart with another configuration does not replay what nobody asked for before."""
    followed = Followed(tmp_path)
    followed.log.write_bytes(b"a\n")
    (tmp_path / "y.txt").write_bytes(b"old\n")
    followed.lines()
    followed._pattern = str(tmp_path / "*.txt")
    followed.restart()
    assert followed.lines() == []


class CountingDisk(Disk):
    """Counts what a quiet night costs."""

    def __init__(self) -> None:
        self.handle_stats = self.path_stats = 0

    def stat(self, path: str) -> os.stat_result:
        self.path_stats += 1
        return super().stat(path)

    def open(self, path: str) -> Handle:
        disk = self

        class CountingHandle(Handle):
            def stat(self) -> os.stat_result:
                disk.handle_stats += 1
                return super().stat()

        super().open(path).close()
        return CountingHandle(os.open(path, os.O_RDONLY))


class Quiet:
    """Many files that were written once; time passes in polls of 0.25 s."""

    def __init__(self, folder: Path, files: int) -> None:
        self.logs = [folder / f"{number}.log" for number in range(files)]
        for log in self.logs:
            append(log, b"old\n")
        self.now = 1000.0
        self.disk = CountingDisk()
        options = FollowOptions(from_start=True)
        self.source = FileSource(
            "x", [str(folder / "*.log")], options=options, disk=self.disk, clock=lambda: self.now
        )

    def lines_in(self, seconds: float) -> list[bytes]:
        found = []
        for _ in range(int(4 * seconds)):
            found += [line for batch in self.source.poll(1 << 20) for line in batch.lines]
            self.now += 0.25
        return found


def test_files_that_stay_quiet_are_looked_at_less_often(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, 256)
    assert len(quiet.lines_in(62)) == 256
    quiet.disk.handle_stats = quiet.disk.path_stats = 0
    assert quiet.lines_in(30) == []
    assert quiet.disk.path_stats <= 256 * 11
    assert quiet.disk.handle_stats <= 256 * (31 + 11)


def test_a_quiet_file_that_speaks_is_heard_within_a_second_and_then_at_once(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, 256)
    quiet.lines_in(70.1)
    for number in range(5):
        append(quiet.logs[7], b"first %d\n" % number)
        assert quiet.lines_in(1.25 if number == 0 else 0.25) == [b"first %d" % number]


def test_after_the_first_news_new_files_are_found_within_a_second(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, 256)
    quiet.lines_in(70)
    append(tmp_path / "late.log", b"found\n")
    assert quiet.lines_in(3.25) == [b"found"]
    append(tmp_path / "later.log", b"found too\n")
    assert quiet.lines_in(1.25) == [b"found too"]


def test_a_rotation_in_a_quiet_night_loses_nothing(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, 256)
    quiet.lines_in(70)
    log = quiet.logs[3]
    append(log, b"last\n")
    log.rename(tmp_path / "3.log.1")
    append(log, b"new\n")
    append(log, b"newer\n")
    assert quiet.lines_in(5) == [b"last", b"new", b"newer"]
    quiet.lines_in(70)
    log.write_bytes(b"cut\n")
    assert quiet.lines_in(5) == [b"cut"]


def test_one_quiet_file_is_found_again_as_soon_as_ever(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, 1)
    quiet.lines_in(100)
    append(tmp_path / "late.log", b"found\n")
    assert quiet.lines_in(1.25) == [b"found"]
