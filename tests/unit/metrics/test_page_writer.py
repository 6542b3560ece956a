from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hisparse_metrics.page import PageWriter
from hisparse_metrics.page_claim import PageInUseError, page_file_name
from hisparse_metrics.page_reader import PageReader, read_page
from hisparse_metrics.stats import EngineIdentity
from hisparse_metrics.stats_dir import StatsDirError
from tests.unit.metrics.support import IDENTITY


def committed(folder: Path, value: float) -> PageWriter:
    writer = PageWriter(folder, IDENTITY, start_time=5.0)
    writer.cells[0] = value
    writer.commit()
    return writer


def test_page_tells_who_writes_it(tmp_path: Path) -> None:
    writer = committed(tmp_path, 7.0)
    page = read_page(writer.path)
    assert page.header.identity == IDENTITY
    assert (page.header.pid, page.header.start_time) == (os.getpid(), 5.0)
    assert (page.alive, page.step, page.cells[0]) == (True, 1, 7.0)


def test_new_page_is_readable_before_the_first_commit(tmp_path: Path) -> None:
    writer = PageWriter(tmp_path, IDENTITY, start_time=5.0)
    page = read_page(writer.path)
    assert page.step == 0
    assert set(page.cells) == {0.0}


def test_cells_change_for_readers_only_at_commit(tmp_path: Path) -> None:
    writer = committed(tmp_path, 1.0)
    writer.cells[0] = 2.0
    assert read_page(writer.path).cells[0] == 1.0
    writer.commit()
    assert read_page(writer.path).cells[0] == 2.0


def test_file_and_folder_are_not_for_others(tmp_path: Path) -> None:
    writer = PageWriter(tmp_path / "new", IDENTITY, start_time=0.0)
    assert writer.path.stat().st_mode & 0o7137 == 0
    assert writer.path.parent.stat().st_mode & 0o7027 == 0


def test_second_living_writer_is_refused_with_the_holder_and_the_remedy(tmp_path: Path) -> None:
    writer = committed(tmp_path, 1.0)
    with pytest.raises(PageInUseError) as refused:
        PageWriter(tmp_path, IDENTITY, start_time=1.0)
    message = str(refused.value)
    assert str(writer.path) in message
    assert f"process {os.getpid()}" in message
    assert "--engine-name" in message
    assert "--stats-dir" in message
    assert read_page(writer.path).cells[0] == 1.0


def test_dead_page_is_replaced_and_its_readers_keep_the_old_content(tmp_path: Path) -> None:
    first = committed(tmp_path, 1.0)
    with PageReader(first.path) as old:
        first.close()
        second = committed(tmp_path, 2.0)
        assert old.snapshot().cells[0] == 1.0
        assert not old.is_alive()
        assert read_page(second.path).cells[0] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == [second.path.name]


def test_a_reader_does_not_keep_a_dead_page_from_being_replaced(tmp_path: Path) -> None:
    first = committed(tmp_path, 1.0)
    first.close()
    fd = os.open(first.path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    second = committed(tmp_path, 2.0)
    os.close(fd)
    assert read_page(second.path).alive


def test_closed_page_stays_and_is_down(tmp_path: Path) -> None:
    writer = committed(tmp_path, 3.0)
    writer.close()
    writer.close()
    page = read_page(writer.path)
    assert (page.alive, page.cells[0]) == (False, 3.0)


def test_unlinked_page_is_gone(tmp_path: Path) -> None:
    committed(tmp_path, 3.0).close(unlink=True)
    assert list(tmp_path.iterdir()) == []


def test_remains_of_a_claim_that_died_are_removed(tmp_path: Path) -> None:
    remains = tmp_path / f".{page_file_name(IDENTITY)}.deadbeef.tmp"
    remains.touch()
    committed(tmp_path, 1.0)
    assert not remains.exists()


def test_a_link_in_the_place_of_the_page_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / page_file_name(IDENTITY)).symlink_to(victim)
    writer = committed(tmp_path, 1.0)
    assert victim.read_text() == "precious"
    assert not writer.path.is_symlink()


def test_a_folder_in_the_place_of_the_page_is_an_error(tmp_path: Path) -> None:
    (tmp_path / page_file_name(IDENTITY)).mkdir()
    with pytest.raises(StatsDirError, match="Is a directory"):
        PageWriter(tmp_path, IDENTITY, start_time=0.0)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_stays_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hisparse_metrics.page_claim._CLAIM_TIMEOUT_SECONDS", 0.0)
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(StatsDirError, match="keeps the folder locked"):
        PageWriter(tmp_path, IDENTITY, start_time=0.0)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_do_not_fit_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at most .* fit"):
        PageWriter(tmp_path, replace(IDENTITY, model_name="x" * 5000), start_time=0.0)
    with pytest.raises(UnicodeEncodeError):
        PageWriter(tmp_path, replace(IDENTITY, model_name="\ud800"), start_time=0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("glm-5.1", "glm-5.1-dp1-pp2-tp3-ep4.page"),
        ("a/b", "a_b-c14cddc0-dp1-pp2-tp3-ep4.page"),
        (".hidden", "_hidden-16924190-dp1-pp2-tp3-ep4.page"),
    ],
)
def test_file_name_tells_engine_and_ranks(name: str, file: str) -> None:
    identity = EngineIdentity(engine_name=name, dp_rank=1, pp_rank=2, tp_rank=3, ep_rank=4)
    assert page_file_name(identity) == file


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "a\0b", "é" * 300, "x" * 300, "a\n.page", "\ud800"]
)
def test_any_engine_name_is_one_plain_file_name(name: str) -> None:
    file = page_file_name(EngineIdentity(engine_name=name))
    assert file.isascii()
    assert file.isprintable()
    assert Path(file).name == file
    assert len(file) < 128
    assert not file.startswith(".")


def test_a_forked_child_lets_go(tmp_path: Path) -> None:
    """The lock must end with the engine even when a child that it forked lives on."""
    writer = committed(tmp_path, 1.0)
    with child_process(writer) as child_says_closed:
        assert read_page(writer.path).alive, "the child must not have dropped the parent's lock"
        writer.let_go()  # what the kernel does when the engine dies; a close would also unlock
        assert not read_page(writer.path).alive
    assert child_says_closed == b"yes"


@contextmanager
def child_process(writer: PageWriter) -> Iterator[bytes]:
    """Fork a child that tells whether ``writer`` is closed for it, and lives until the block ends."""
    (told, tell), (wait, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.write(tell, b"yes" if writer.closed else b"no")
        os.read(wait, 1)
        os._exit(0)
    try:
        yield os.read(told, 3)
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for fd in (told, tell, wait):
            os.close(fd)
