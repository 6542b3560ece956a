from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.follow.support import Followed, append


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    (tmp_path / "x.log").write_bytes(b"old\n")
    followed = Followed(tmp_path)
    assert followed.lines() == []
    return followed


def test_new_lines_come_and_old_ones_do_not(followed: Followed) -> None:
    append(followed.log, b"new\n")
    assert followed.lines() == [b"new"]
    assert followed.lines() == []


def test_from_start_replays(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"old\n")
    assert Followed(tmp_path, from_start=True).lines() == [b"old"]


def test_a_line_that_is_being_written_at_the_start_is_whole(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"old\nhalf")
    followed = Followed(tmp_path)
    followed.lines()
    append(followed.log, b" and half\n")
    assert followed.lines() == [b"half and half"]


def test_a_file_that_is_not_there_yet_is_read_from_its_beginning(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    assert followed.lines() == []
    status = followed.source.status()
    assert not status.up
    assert status.reason == f"{followed.log}: No such file or directory"
    followed.log.write_bytes(b"first\n")
    assert followed.lines() == [b"first"]
    assert followed.source.status().up


def test_rename_and_create_drains_the_old_file_first(followed: Followed) -> None:
    old = followed.log.open("ab")
    followed.log.rename(followed.log.with_name("x.log.1"))
    followed.log.write_bytes(b"new\n")
    old.write(b"late\n")
    old.flush()
    assert followed.lines() == [b"late", b"new"]
    old.write(b"very late\n")
    old.close()
    assert followed.lines() == [b"very late"]


def test_a_file_that_came_and_went_between_two_looks_is_found(followed: Followed) -> None:
    for text in (b"b\n", b"c\n"):
        for number in (2, 1):
            if (file := followed.log.with_name(f"x.log.{number}")).exists():
                file.rename(followed.log.with_name(f"x.log.{number + 1}"))
        followed.log.rename(followed.log.with_name("x.log.1"))
        followed.log.write_bytes(text)
    assert followed.lines() == [b"b", b"c"]


def test_files_beside_the_log_that_are_no_generation_of_it_stay_unread(followed: Followed) -> None:
    append(followed.log, b"a\n")
    assert followed.lines() == [b"a"]
    shutil.copy(followed.log, followed.log.with_name("x.log.bak"))
    (followed.log.with_name("x.log.2.gz")).write_bytes(b"compressed\n")
    (followed.log.with_name("x.logger")).write_bytes(b"another program's\n")
    followed.log.rename(followed.log.with_name("x.log.1"))
    followed.log.write_bytes(b"b\n")
    assert followed.lines() == [b"b"]


def test_copytruncate(followed: Followed) -> None:
    append(followed.log, b"a\n")
    assert followed.lines() == [b"a"]
    os.truncate(followed.log, 0)
    append(followed.log, b"b\n")
    assert followed.lines() == [b"b"]
    assert followed.source.counts.truncations == 1


def test_what_was_not_read_before_copytruncate_is_read_from_the_copy(followed: Followed) -> None:
    append(followed.log, b"a\n")
    assert followed.lines() == [b"a"]
    append(followed.log, b"unread\n")
    shutil.copy(followed.log, followed.log.with_name("x.log.1"))
    os.truncate(followed.log, 0)
    append(followed.log, b"b\n")
    assert sorted(followed.lines()) == [b"b", b"unread"]
    assert followed.lines() == []


@pytest.mark.parametrize(
    "new", [b"b", b"other text of the same siz\n", b"longer than what was there before\n" * 9]
)
def test_truncated_and_grown_again_between_two_polls(followed: Followed, new: bytes) -> None:
    append(followed.log, b"first text of some length\n")
    followed.lines()
    os.truncate(followed.log, 0)
    append(followed.log, new + b"\n")
    assert followed.lines() == (new + b"\n").splitlines()


def test_a_partial_line_that_was_truncated_away_is_dropped_and_counted(followed: Followed) -> None:
    append(followed.log, b"half of a line")
    followed.lines()
    os.truncate(followed.log, 0)
    append(followed.log, b"whole\n")
    assert followed.lines() == [b"whole"]
    assert followed.source.counts.dropped_partials == 1


def test_truncated_and_grown_again_with_the_same_first_bytes(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    banner = b"the same banner at every start\n" * 20
    followed.log.write_bytes(banner + b"a\n" * 100)
    followed.lines()
    followed.log.write_bytes(banner + b"b\n" * 200)
    assert followed.lines()[-200:] == [b"b"] * 200


def test_truncated_and_grown_again_with_the_same_last_bytes(followed: Followed) -> None:
    append(followed.log, b"a\n" + b"x\n" * 100)
    followed.lines()
    os.truncate(followed.log, 0)
    append(followed.log, b"old\nb\n" + b"x\n" * 100)
    assert followed.lines()[:2] == [b"old", b"b"]


def test_a_file_that_lost_only_its_end_is_not_read_again(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    followed.log.write_bytes(b"first\nsecond\nthird\n")
    followed.lines()
    os.truncate(followed.log, 9)
    assert followed.lines() == []
    append(followed.log, b"rest\nfourth\n")
    assert followed.lines() == [b"fourth"]


def test_another_file_beside_a_truncated_log_is_not_its_copy(followed: Followed) -> None:
    followed.log.with_name("x.log.other").write_bytes(b"what another program wrote\n" * 9)
    append(followed.log, b"a\n")
    followed.lines()
    os.truncate(followed.log, 0)
    append(followed.log, b"b\n")
    assert followed.lines() == [b"b"]
    assert followed.lines() == []


def test_a_copy_of_the_copy_has_nothing_new(tmp_path: Path) -> None:
    followed = Followed(tmp_path, "x.log*", from_start=True)
    followed.log.write_bytes(b"a\n")
    followed.lines()
    append(followed.log, b"unread\n")
    shutil.copy(followed.log, tmp_path / "x.log.1")
    os.truncate(followed.log, 0)
    assert followed.lines() == [b"unread"]
    shutil.copy(tmp_path / "x.log.1", tmp_path / "x.log.1.bak")
    (tmp_path / "x.log.1").unlink()
    followed.now += 100
    assert followed.lines() == []
    followed.restart()
    assert followed.lines() == []


def test_a_second_copy_of_a_truncated_file_is_not_read_again(followed: Followed) -> None:
    append(followed.log, b"a\n")
    followed.lines()
    append(followed.log, b"unread\n")
    for name in ("x.log.1", "x.log.bak"):
        shutil.copy(followed.log, followed.log.with_name(name))
    os.truncate(followed.log, 0)
    assert followed.lines() == [b"unread"]
    assert followed.lines() == []


def test_a_generation_that_cannot_be_opened_is_read_when_it_can(followed: Followed) -> None:
    followed.disk.open_error = 13
    followed.log.rename(followed.log.with_name("x.log.2"))
    followed.log.with_name("x.log.1").write_bytes(b"b\n")
    assert followed.lines() == []
    followed.log.write_bytes(b"c\n")
    assert followed.lines() == []
    followed.disk.open_error = 0
    assert sorted(followed.lines()) == [b"b", b"c"]


def test_an_empty_log_whose_inode_is_used_again_by_a_later_one(tmp_path: Path) -> None:
    """An empty log says nothing about its content: what is new beside it is looked at too."""
    followed = Followed(tmp_path)
    followed.log.touch()
    followed.lines()
    (tmp_path / "x.log.1").write_bytes(b"rotated away while nobody looked\n")
    append(followed.log, b"same inode\n")
    followed.restart()
    assert sorted(followed.lines()) == [b"rotated away while nobody looked", b"same inode"]


@pytest.mark.parametrize("pattern", ["x.log", "x.log*"])
@pytest.mark.parametrize("keep_inode", [True, False])
def test_copied_and_emptied_while_nobody_looked(tmp_path: Path, pattern: str, keep_inode: bool) -> None:
    followed = Followed(tmp_path, pattern, from_start=True)
    followed.log.write_bytes(b"a\n")
    followed.lines()
    append(followed.log, b"unread\n")
    shutil.copy(followed.log, tmp_path / "x.log.1")
    if not keep_inode:
        followed.log.unlink()
    followed.log.write_bytes(b"b\n")
    followed.restart()
    assert sorted(followed.lines()) == [b"b", b"unread"]
    assert followed.lines() == []


def test_delete_and_recreate(followed: Followed) -> None:
    append(followed.log, b"a\n")
    followed.log.unlink()
    followed.log.write_bytes(b"b\n")
    assert followed.lines() == [b"a", b"b"]


def test_a_deleted_file_is_let_go_of_after_a_while(followed: Followed) -> None:
    append(followed.log, b"half")
    followed.lines()
    followed.log.unlink()
    followed.lines()
    assert len(list(followed.source._roster.files())) == 1
    followed.now += 100
    followed.lines()
    assert list(followed.source._roster.files()) == []
    assert followed.source.counts.dropped_partials == 1


def test_an_inode_that_is_used_again_after_a_restart_is_a_new_file(followed: Followed) -> None:
    append(followed.log, b"a\n")
    followed.lines()
    followed.log.write_bytes(b"new file, same inode\n")
    followed.restart()
    assert followed.lines() == [b"new file, same inode"]


def test_a_symlink_that_leads_elsewhere_and_back(tmp_path: Path) -> None:
    runs = [tmp_path / "run-1.txt", tmp_path / "run-2.txt"]
    for run in runs:
        run.write_bytes(b"")
    followed = Followed(tmp_path, from_start=True)

    def lead_to(run: Path) -> None:
        followed.log.unlink(missing_ok=True)
        followed.log.symlink_to(run)

    lead_to(runs[0])
    append(runs[0], b"one\n")
    assert followed.lines() == [b"one"]
    append(runs[0], b"one, late\n")
    lead_to(runs[1])
    append(runs[1], b"two\n")
    assert followed.lines() == [b"one, late", b"two"]
    followed.now += 100
    assert followed.lines() == []
    lead_to(runs[0])
    append(runs[0], b"one again\n")
    assert followed.lines() == [b"one again"]


def test_a_nul_hole_left_by_a_writer_that_kept_its_offset(followed: Followed) -> None:
    with followed.log.open("r+b") as writer:
        writer.seek(0, os.SEEK_END)
        writer.write(b"x" * 100_000 + b"\n")
        writer.flush()
        assert len(followed.lines()) == 1
        os.truncate(followed.log, 0)
        writer.write(b"after\n")
    assert followed.lines() == [b"after"]
    assert followed.source.counts.nul_bytes >= 100_000


def test_a_huge_hole_is_passed_in_few_reads(tmp_path: Path) -> None:
    followed = Followed(tmp_path, from_start=True)
    with followed.log.open("wb") as writer:
        writer.seek(1 << 40)
        writer.write(b"after\n")
    assert followed.lines() == [b"after"]
    assert followed.source.status().bytes_read < 1 << 21
    followed.restart()
    assert followed.lines() == []


def test_a_rotated_name_that_matches_too_is_not_read_twice(tmp_path: Path) -> None:
    followed = Followed(tmp_path, "x.log*", from_start=True)
    followed.log.write_bytes(b"a\n")
    assert followed.lines() == [b"a"]
    for text in (b"b\n", b"c\n", b"d\n"):
        shutil.copy(followed.log, followed.log.with_name("x.log.1"))
        assert followed.lines() == []
        os.truncate(followed.log, 0)
        append(followed.log, text)
        assert followed.lines() == [text.strip()]
        followed.log.with_name("x.log.1").rename(followed.log.with_name("x.log.2"))
        assert followed.lines() == []
        followed.log.with_name("x.log.2").unlink()


@pytest.mark.parametrize("pattern", ["x.log", "x.log*"])
def test_rotation_while_nobody_looked_is_caught_up_after_a_restart(tmp_path: Path, pattern: str) -> None:
    followed = Followed(tmp_path, pattern)
    followed.log.write_bytes(b"old\n")
    followed.lines()
    append(followed.log, b"a\n")
    followed.log.rename(tmp_path / "x.log.1")
    followed.log.write_bytes(b"b\n")
    (tmp_path / "x.log.1").rename(tmp_path / "x.log.2")
    followed.log.rename(tmp_path / "x.log.1")
    followed.log.write_bytes(b"c\n")
    followed.restart()
    assert sorted(followed.lines()) == [b"a", b"b", b"c"]
    followed.restart()
    assert followed.lines() == []
