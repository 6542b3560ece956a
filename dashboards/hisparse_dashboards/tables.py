"""What a table looks like: one row a thing, one instant query a column, put together by the labels of the thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import table as builders
from grafana_foundation_sdk.models import common, dashboard, prometheus

from hisparse_dashboards import palette
from hisparse_dashboards.panels import DATASOURCE, Line, Step, query, ref_id, thresholds, words

TIME = "Time"
VALUE = "Value"
ABSENT = "–"
"""What a cell shows for null; zero is shown as a number."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column with numbers. ``bar`` draws a gauge from 0 to 1; ``states`` are words for values."""

    title: str
    expr: str
    unit: str = palette.COUNT
    steps: Sequence[Step] = ()
    bar: bool = False
    states: Sequence[tuple[float, str, str]] = ()
    """Value, word, colour."""


def merged(
    title: str, description: str, labels: Sequence[tuple[str, str]], columns: Sequence[Column], sort_by: str
) -> builders.Panel:
    """Return a table of all ``columns`` with a row for each combination of ``labels`` (label, title)."""
    panel = _plain(title, description)
    for index, column in enumerate(columns):
        line = Line(column.expr, column.title)
        panel = panel.with_target(query(line, index).instant().format(prometheus.PromQueryFormat.TABLE))
    value_fields = [_value_field(index, len(columns)) for index in range(len(columns))]
    titles = dict(labels) | {field: c.title for field, c in zip(value_fields, columns, strict=True)}
    panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(_organized(titles))
    for field, column in zip(value_fields, columns, strict=True):
        panel = panel.override_by_name(titles[field], _style(column))
    return panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(True)])


def linked(panel: builders.Panel, title: str, *links: tuple[str, str]) -> builders.Panel:
    """Make the cells of a column lead somewhere: (what the link says, where it leads)."""
    value = [{"title": says, "url": url, "targetBlank": False} for says, url in links]
    return panel.override_by_name(title, [dashboard.DynamicConfigValue(id_val="links", value=value)])


def _plain(title: str, description: str) -> builders.Panel:
    return (
        builders.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(palette.COUNT)
        .no_value(ABSENT)
        .show_header(True)
        .cell_height(common.TableCellHeight.SM)
        .filterable(True)
        .cell_options(common.TableAutoCellOptions())
    )


def _value_field(index: int, count: int) -> str:
    """Name the field that Grafana makes of a query's value."""
    return f"{VALUE} #{ref_id(index)}" if count > 1 else VALUE


def _organized(titles: dict[str, str]) -> dashboard.DataTransformerConfig:
    """Put the columns in order, give them their titles, and leave out what is the same in every row."""
    options = {
        "excludeByName": {TIME: True},
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(titles)},
        "renameByName": titles,
    }
    return dashboard.DataTransformerConfig(id_val="organize", options=options)


def _style(column: Column) -> list[dashboard.DynamicConfigValue]:
    properties: list[tuple[str, object]] = [("unit", column.unit)]
    if column.steps:
        properties.append(("thresholds", thresholds(column.steps).build()))
    if column.states:
        properties.append(("mappings", words(column.states)))
    if column.bar:
        properties += [("min", 0), ("max", 1)]
        cell: object = {"type": "gauge", "mode": common.BarGaugeDisplayMode.BASIC, "valueDisplayMode": "text"}
    elif column.steps or column.states:
        cell = {"type": common.TableCellDisplayMode.COLOR_TEXT}
    else:
        cell = {"type": common.TableCellDisplayMode.AUTO}
    properties.append(("custom.cellOptions", cell))
    return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in properties]
