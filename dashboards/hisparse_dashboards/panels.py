"""The panel vocabulary: what a figure, a curve and a threshold look like on every HiSparse dashboard.

Each function makes fresh builders, because the SDK's builders change in place when they are used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import prometheus, stat
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common, dashboard

from hisparse_dashboards import palette
from hisparse_dashboards.queries import Scope
from hisparse_metrics.metric import Metric

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
NO_DATA = "no data"
"""What a panel shows for null; zero is shown as a number."""


@dataclass(frozen=True, slots=True)
class Line:
    """One query of a panel. ``color`` None leaves the choice to the panel; ``dashed`` marks a limit."""

    expr: str
    legend: str
    color: str | None = None
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """From ``value`` upwards a figure or background has ``color``; ``None`` is the lowest step."""

    value: float | None
    color: str


def rising(warning: float, critical: float | None = None) -> tuple[Step, ...]:
    """Return steps for a figure that is worse the higher it is."""
    steps = (Step(None, palette.GOOD), Step(warning, palette.WARNING))
    return steps if critical is None else (*steps, Step(critical, palette.CRITICAL))


def falling(warning: float, critical: float | None = None) -> tuple[Step, ...]:
    """Return steps for a figure that is worse the lower it is."""
    steps = (Step(None, palette.WARNING), Step(warning, palette.GOOD))
    return (
        steps
        if critical is None
        else (Step(None, palette.CRITICAL), Step(critical, palette.WARNING), steps[1])
    )


def alarming(at: float) -> tuple[Step, ...]:
    """Return steps for a count that must stay below ``at``."""
    return (Step(None, palette.GOOD), Step(at, palette.CRITICAL))


PLAIN = (Step(None, palette.NEUTRAL),)
"""Steps of a figure that is neither good nor bad."""


def figure(
    title: str,
    description: str,
    unit: str,
    lines: Sequence[Line],
    steps: Sequence[Step] = PLAIN,
    *,
    null: str = NO_DATA,
) -> stat.Panel:
    """Return one number (or a few), as it is now: a series that has ended says ``null``, not its last value."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(null)
        .thresholds(thresholds(steps))
        .color_scheme(dashboard_builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for index, line in enumerate(lines):
        panel = panel.with_target(query(line, index).instant())
    return panel


def curves(
    title: str, description: str, unit: str, lines: Sequence[Line], *, axis: str = ""
) -> timeseries_builders.Panel:
    """Return lines over time, from zero; a null is a gap, never bridged and never drawn as zero."""
    panel = (
        timeseries_builders.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(NO_DATA)
        .axis_soft_min(0)
        .axis_label(axis)
        .line_width(2)
        .fill_opacity(8)
        .span_nulls(False)
        .show_points(common.VisibilityMode.AUTO)
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    return adding(panel, 0, lines)


def named(panel: stat.Panel) -> stat.Panel:
    """Say whose figure it is, beside the figure."""
    return panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME)


def adding(panel: timeseries_builders.Panel, drawn: int, lines: Sequence[Line]) -> timeseries_builders.Panel:
    """Draw further lines on a panel that has ``drawn`` already."""
    for index, line in enumerate(lines, drawn):
        panel = panel.with_target(query(line, index).range())
        if line.color is not None:
            panel = panel.override_by_query(ref_id(index), _style(line, line.color))
    return panel


def shaded(panel: timeseries_builders.Panel, color: str) -> timeseries_builders.Panel:
    """Draw every line of ``panel`` in a shade of one colour: many engines, one meaning."""
    return panel.color_scheme(
        dashboard_builders.FieldColor().mode(dashboard.FieldColorModeId.SHADES).fixed_color(color)
    )


def bounded(panel: timeseries_builders.Panel, steps: Sequence[Step] = ()) -> timeseries_builders.Panel:
    """Give a ratio its full axis, 0 to 1, and the lines from which it becomes a worry."""
    panel = panel.min(0).max(1)
    if not steps:
        return panel
    # Below the first worry the background stays as it is.
    plain = [Step(s.value, s.color if s.color != palette.GOOD else "transparent") for s in steps]
    style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(plain)).thresholds_style(style)


def quantiles(title: str, description: str, scope: Scope, metric: Metric) -> timeseries_builders.Panel:
    """Return p50, p95 and p99 of a duration, in the same three colours everywhere."""
    lines = [
        Line(scope.quantile(q, metric), f"p{q * 100:.0f}", color) for q, color in palette.QUANTILES.items()
    ]
    return curves(title, description, palette.SECONDS, lines)


def words(states: Sequence[tuple[float, str, str]]) -> list[dashboard.ValueMapping]:
    """Return what stands for a number that is a state: value, word, colour."""
    results = {
        f"{value:g}": dashboard.ValueMappingResult(text=word, color=color, index=index)
        for index, (value, word, color) in enumerate(states)
    }
    return [dashboard.ValueMap(options=results)]


def query(line: Line, index: int) -> prometheus.Dataquery:
    """Return one query of a panel; its reference is its place."""
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .expr(line.expr)
        .legend_format(line.legend)
        .ref_id(ref_id(index))
    )


def ref_id(index: int) -> str:
    """Name the query at a place of a panel."""
    return chr(ord("A") + index)


def _style(line: Line, color: str) -> list[dashboard.DynamicConfigValue]:
    fixed = dashboard.FieldColor(mode=dashboard.FieldColorModeId.FIXED, fixed_color=color)
    style = [dashboard.DynamicConfigValue(id_val="color", value=fixed)]
    if line.dashed:
        dash = common.LineStyle(fill="dash", dash=[8, 6])
        style += [
            dashboard.DynamicConfigValue(id_val="custom.lineStyle", value=dash),
            dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        ]
    return style


def thresholds(steps: Sequence[Step]) -> dashboard_builders.ThresholdsConfig:
    """Return steps as Grafana has them."""
    return (
        dashboard_builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=step.value, color=step.color) for step in steps])
    )


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
