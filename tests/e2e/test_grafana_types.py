"""The committed dashboards are what Grafana's own published types say: ``@grafana/schema``, checked by ``tsc``.

Each panel is checked as its kind, with that kind's options and field configuration. Names that Grafana does not know are
errors, because the JSON is written out as literals.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.dashboard_json import Json, committed
from tests.support.npm import require_packages

SOURCES = Path(__file__).parents[1] / "grafana"
KINDS = ("row", "heatmap", "stat", "state-timeline", "table", "timeseries")


def literals(board: Json) -> str:
    """Return TypeScript that states each part of ``board`` as what it must be."""
    name = board["uid"].replace("-", "_")
    parts = [(panel["type"].replace("-", "_"), f"panel_{panel['id']}", panel) for panel in board["panels"]]
    marks = board["annotations"]["list"]
    parts += [("annotation", f"annotation_{index}", mark) for index, mark in enumerate(marks)]
    rest = {key: value for key, value in board.items() if key not in {"panels", "annotations"}}
    parts.append(("dashboard", "itself", rest))
    return "\n".join(
        f"export const {name}_{part}: types.{kind} = {json.dumps(value, indent=1)};"
        for kind, part, value in parts
    )


def complaints(boards: list[Json], folder: Path) -> list[str]:
    """Return what the compiler says about ``boards``."""
    modules = require_packages(SOURCES)
    for name in ("json_types.ts", "tsconfig.json", "package.json"):
        shutil.copy(SOURCES / name, folder / name)
    (folder / "node_modules").symlink_to(modules / "node_modules")
    source = "import type * as types from './json_types.js';\n" + "\n".join(map(literals, boards))
    (folder / "dashboards.ts").write_text(source)
    done = subprocess.run(
        [modules / "node_modules/.bin/tsc", "--project", folder],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if "error TS" in line]


def test_every_kind_of_panel_is_checked() -> None:
    assert {panel["type"] for board in committed() for panel in board["panels"]} == set(KINDS)


def test_every_dashboard_has_grafanas_types(tmp_path: Path) -> None:
    boards = committed()
    assert len(boards) == 3
    assert complaints(boards, tmp_path) == []


WRONG: dict[str, tuple[tuple[str, ...], object]] = {
    "stat": (("options", "graphMode"), "sparkles"),
    "timeseries": (("fieldConfig", "defaults", "custom", "lineWidths"), 2),
    "table": (("options", "cellHeight"), 7),
    "heatmap": (("options", "yAxis", "unit"), 3),
    "state-timeline": (("options", "rowHigh"), 1),
    "row": (("collapsed",), "no"),
}
"""Kind → where to put what is wrong: a word, a name or a type that Grafana does not have there."""


def test_the_compiler_sees_what_is_wrong(tmp_path: Path) -> None:
    board = committed()[0]
    everything = [panel for each in committed() for panel in each["panels"]]
    board["panels"] = [next(panel for panel in everything if panel["type"] == kind) for kind in WRONG]
    for panel, (path, wrong) in zip(board["panels"], WRONG.values(), strict=True):
        place = panel
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = wrong
    assert len(complaints([board], tmp_path)) == len(WRONG)
