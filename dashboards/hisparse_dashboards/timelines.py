"""What a state over time looks like: a band a thing, in the colour of the state that it was in."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import statetimeline as builders
from grafana_foundation_sdk.models import common

from hisparse_dashboards import palette
from hisparse_dashboards.panels import DATASOURCE, NO_DATA, Line, query, words


def states(
    title: str, description: str, line: Line, values: Sequence[tuple[float, str, str]]
) -> builders.Panel:
    """Return a timeline of a number that stands for a state: value, word, colour."""
    return (
        builders.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(palette.COUNT)
        .no_value(NO_DATA)
        .mappings(words(values))
        .show_value(common.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.9)
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .with_target(query(line, 0).range())
    )
