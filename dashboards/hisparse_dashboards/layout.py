"""From named panels in rows to a finished dashboard: grid positions, stable ids, and what every dashboard shares.

The SDK leaves panels without an id and rows with id 0, and places panels by itself in ways that lose some; all of
that is settled here, in one last pass.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import table as table_models

from hisparse_dashboards import links
from hisparse_dashboards.variables import every_variable
from hisparse_dashboards.view import View

PanelBuilder = stat.Panel | timeseries.Panel | table.Panel | heatmap.Panel | statetimeline.Panel
GRID_WIDTH = 24
REFRESH = "10s"


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row; its panels share the grid's width equally. A panel's key is its identity: never change it."""

    key: str
    title: str
    height: int
    panels: Mapping[str, PanelBuilder]


@dataclass(frozen=True, slots=True)
class Page:
    """What a dashboard is, apart from its rows; ``series`` knows the values of its variables."""

    uid: str
    title: str
    description: str
    view: View
    series: str
    annotations: Sequence[dashboard.AnnotationQuery] = ()


def finish(page: Page, rows: list[Row]) -> dashboard.Dashboard:
    """Put the rows together and apply what every dashboard shares."""
    built = (
        builders.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([links.TAG])
        .refresh(REFRESH)
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .variables([*every_variable(page.view, page.series)])
        .readonly()
        .build()
    )
    for variable in built.templating.list_val or ():
        # The SDK gives every variable what only those of intervals have.
        variable.auto = variable.auto_min = variable.auto_count = None
    built.links = links.between_dashboards()
    built.annotations.list_val = [*page.annotations]
    built.panels = list(_placed(rows))
    _refuse_equal_ids(built.panels)
    return built


def render(board: dashboard.Dashboard) -> str:
    """Return the dashboard as sorted JSON, the form that is committed."""
    return json.dumps(board, cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def as_json(board: dashboard.Dashboard) -> dict[str, Any]:
    """Return the dashboard as the plain values that a Grafana loads."""
    loaded: dict[str, Any] = json.loads(render(board))
    return loaded


def stable_id(key: str) -> int:
    """Derive a panel's id from its key, so that links survive any reordering."""
    return zlib.crc32(key.encode()) % 1_000_000 + 1


def _placed(rows: list[Row]) -> Iterator[dashboard.Panel | dashboard.RowPanel]:
    """Yield rows and their panels, top to bottom, left to right."""
    y = 0
    for row in rows:
        yield _header(row, y)
        width = GRID_WIDTH // len(row.panels)
        for index, (key, builder) in enumerate(row.panels.items()):
            panel = builder.build()
            panel.id_val = stable_id(key)
            if isinstance(panel.options, table_models.Options):
                panel.options.footer = None  # what the SDK writes there is not Grafana's any more
            panel.grid_pos = dashboard.GridPos(h=row.height, w=width, x=index * width, y=y + 1)
            yield panel
        y += 1 + row.height


def _header(row: Row, y: int) -> dashboard.RowPanel:
    header = builders.Row(row.title).id(stable_id(f"row-{row.key}")).build()
    header.grid_pos = dashboard.GridPos(h=1, w=GRID_WIDTH, x=0, y=y)
    return header


def _refuse_equal_ids(panels: list[dashboard.Panel | dashboard.RowPanel]) -> None:
    ids = [panel.id_val for panel in panels]
    if len(set(ids)) != len(ids):
        raise ValueError("two panels have the same id: give one of them another key")
