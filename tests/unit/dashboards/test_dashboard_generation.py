from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hisparse_dashboards import generate, view
from hisparse_dashboards.__main__ import main
from hisparse_dashboards.config import DEFAULT
from hisparse_dashboards.layout import Page, Row, finish
from hisparse_dashboards.panels import Line, figure

ROOT = Path(__file__).parents[3]
OVERVIEW = Path("dashboards/generated/hisparse-overview.json")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with fresh generated files."""
    (tmp_path / "pyproject.toml").touch()
    assert main(["--root", str(tmp_path)]) == 0
    return tmp_path


def check(root: Path) -> int:
    return main(["--root", str(root), "--check"])


def test_the_committed_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(ROOT) == 0, capsys.readouterr().out


def test_check_accepts_what_was_just_written(tree: Path) -> None:
    assert check(tree) == 0


def test_check_shows_the_difference_and_writes_nothing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = (tree / OVERVIEW).read_text().replace("HiSparse Overview", "My Overview")
    (tree / OVERVIEW).write_text(stale)
    assert check(tree) == 1
    said = capsys.readouterr().out
    assert '-  "title": "My Overview",' in said
    assert '+  "title": "HiSparse Overview",' in said
    assert (tree / OVERVIEW).read_text() == stale


def test_check_notices_a_missing_and_a_leftover_file(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / OVERVIEW).rename(tree / "dashboards/generated/old.json")
    assert check(tree) == 1
    assert "dashboards/generated/old.json: not generated any more" in capsys.readouterr().out


def test_writing_removes_leftovers(tree: Path) -> None:
    (tree / "dashboards/generated/old.json").touch()
    assert main(["--root", str(tree)]) == 0
    assert not (tree / "dashboards/generated/old.json").exists()


def test_a_folder_that_is_no_repository_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 2
    assert "no pyproject.toml" in capsys.readouterr().out


def test_files_do_not_depend_on_hash_seed_time_or_place() -> None:
    script = "from hisparse_dashboards.generate import files; import sys; sys.stdout.write(repr(files()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TZ": "Asia/Tokyo"}

    def generated(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        ).stdout

    assert generated("1") == generated("2") == repr(generate.files())


def test_two_panels_with_one_id_are_refused() -> None:
    def same() -> dict[str, object]:
        return {"twin": figure("T", "d", "short", [Line("up", "u")])}

    with pytest.raises(ValueError, match="same id"):
        finish(
            Page("u", "t", "d", view.fleet(DEFAULT), "up"),
            [Row("a", "A", 4, same()), Row("b", "B", 4, same())],
        )  # type: ignore[arg-type]
