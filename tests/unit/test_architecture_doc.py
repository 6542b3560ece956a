"""docs/architecture.md says one sentence on every module, and on none that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize(
    "package", ["hisparse_engine", "metrics/hisparse_metrics", "dashboards/hisparse_dashboards"]
)
def test_every_module_is_named_once(package: str) -> None:
    section = TEXT.split(f"### {package}/")[1].split("\n### ")[0]
    named = re.findall(r"^- `(.+?\.py)`: \S", section, re.MULTILINE)
    there = {str(path.relative_to(ROOT / package)) for path in (ROOT / package).rglob("*.py")}
    assert sorted(named) == sorted(there - {"__init__.py"})


def test_every_test_that_it_points_to_is_there() -> None:
    for path in re.findall(r"`(tests/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
