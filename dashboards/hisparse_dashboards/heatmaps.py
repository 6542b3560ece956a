"""What a histogram over time looks like: how many durations fell into each bucket, darker where there are more."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import heatmap as builders
from grafana_foundation_sdk.models import common, heatmap, prometheus

from hisparse_dashboards import palette
from hisparse_dashboards.panels import DATASOURCE, NO_DATA, Line, query
from hisparse_dashboards.queries import Scope
from hisparse_metrics.metric import Metric


def durations(title: str, description: str, scope: Scope, metric: Metric) -> builders.Panel:
    """Return the distribution of a histogram of seconds; a column without observations stays empty."""
    line = Line(scope.buckets(metric), "{{le}}")
    return (
        builders.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(palette.PER_SECOND)
        .no_value(NO_DATA)
        .calculate(False)
        .cell_gap(1)
        .cell_values(builders.CellValues().unit(palette.PER_SECOND))
        # Only cells with observations: 0 is empty, not the lightest colour.
        .filter_values(builders.FilterValueRange().le(1e-9))
        .color(
            builders.HeatmapColorOptions()
            .mode(heatmap.HeatmapColorMode.SCHEME)
            .scheme("Cividis")
            .scale(heatmap.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .fill(palette.DEVICE)
        )
        .y_axis(
            builders.YAxisConfig()
            .unit(palette.SECONDS)
            .axis_placement(common.AxisPlacement.LEFT)
            .scale_distribution(
                common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR)
            )
        )
        .rows_frame(builders.RowsHeatmapOptions().layout(common.HeatmapCellLayout.AUTO))
        .tooltip(
            builders.HeatmapTooltip()
            .mode(common.TooltipDisplayMode.SINGLE)
            .y_histogram(True)
            .show_color_scale(True)
        )
        .show_legend()
        .exemplars_color(palette.CRITICAL)
        .with_target(query(line, 0).range().format(prometheus.PromQueryFormat.HEATMAP))
    )
