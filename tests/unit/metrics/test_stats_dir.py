from __future__ import annotations

import os
from pathlib import Path

import pytest

from hisparse_metrics import stats_dir
from hisparse_metrics.stats_dir import StatsDirError, default_stats_dir, prepare_stats_dir


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(stats_dir, "_SHARED_MEMORY", folder)
    return folder


def test_environment_decides(shared_memory: Path) -> None:
    assert default_stats_dir({"HISPARSE_STATS_DIR": "/some/where"}) == Path("/some/where")


def test_shared_memory_is_preferred_and_nothing_is_created(shared_memory: Path) -> None:
    assert default_stats_dir({"XDG_RUNTIME_DIR": "/run/user/1"}) == shared_memory / "hisparse"
    assert list(shared_memory.iterdir()) == []


def test_own_private_folder_is_kept(shared_memory: Path) -> None:
    (shared_memory / "hisparse").mkdir(mode=0o750)
    assert default_stats_dir({}) == shared_memory / "hisparse"


def test_world_writable_folder_is_passed_over(shared_memory: Path, tmp_path: Path) -> None:
    (shared_memory / "hisparse").mkdir()
    (shared_memory / "hisparse").chmod(0o777)
    assert default_stats_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "hisparse"


def test_link_is_passed_over(shared_memory: Path, tmp_path: Path) -> None:
    (shared_memory / "hisparse").symlink_to(tmp_path)
    assert default_stats_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "hisparse"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_passed_over(shared_memory: Path, tmp_path: Path) -> None:
    (shared_memory / "hisparse").mkdir()
    os.chown(shared_memory / "hisparse", 12345, 12345)
    assert default_stats_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "hisparse"


def test_without_shared_memory_the_temporary_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_dir, "_SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_stats_dir({}) == tmp_path / f"hisparse-{os.getuid()}"


def test_prepare_creates_a_folder_that_others_cannot_enter(tmp_path: Path) -> None:
    prepare_stats_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7027 == 0


def test_prepare_names_folder_reason_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StatsDirError, match=rf"{file} cannot be used: it is not a folder; .*--stats-dir"):
        prepare_stats_dir(file)
    with pytest.raises(
        StatsDirError, match=r"file/sub cannot be used: Not a directory; .*HISPARSE_STATS_DIR"
    ):
        prepare_stats_dir(file / "sub")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_prepare_refuses_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StatsDirError, match="no permission to write"):
        prepare_stats_dir(tmp_path)


def test_prepare_warns_of_a_folder_that_anyone_may_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    prepare_stats_dir(tmp_path)
    assert "every user may replace files" in caplog.text
