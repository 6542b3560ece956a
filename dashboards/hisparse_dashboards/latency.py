"""How long users wait, as whole distributions: a quantile hides two humps, a heatmap shows them."""

from __future__ import annotations

from grafana_foundation_sdk.builders import heatmap, timeseries

from hisparse_dashboards.heatmaps import durations
from hisparse_dashboards.panels import quantiles
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def first_token_map(view: View) -> heatmap.Panel:
    """Draw all times to first token."""
    return durations(
        "Time to first token, distribution",
        "Is the wait for the first token alike for everybody, or are there two kinds of requests? A second band above the "
        "first: some wait for admission (see Waiting) or have long prompts. Empty columns: no request got its first token.",
        view.exported,
        m.TIME_TO_FIRST_TOKEN_SECONDS,
    )


def inter_token_map(view: View) -> heatmap.Panel:
    """Draw all times between tokens."""
    return durations(
        "Inter-token latency, distribution",
        "Do tokens come evenly? A thin second band far above: prefill chunks or swap-in bursts stand between tokens; make "
        "the prefill chunk smaller, or see Swap-in's share of a step. Empty columns: nothing was generated.",
        view.exported,
        m.INTER_TOKEN_LATENCY_SECONDS,
    )


def step_map(view: View) -> heatmap.Panel:
    """Draw all decode steps."""
    return durations(
        "Decode step, distribution",
        "Are steps alike? Slow ones beside many fast ones are misses or a neighbour on the host; all slow together is the "
        "size of the batch. Empty columns: no step was taken.",
        view.exported,
        m.DECODE_STEP_SECONDS,
    )


def request(view: View) -> timeseries.Panel:
    """Draw the duration of whole requests."""
    return quantiles(
        "Request duration",
        "How long does a request take from arrival to its last token? It grows with the length of answers first of all; "
        "compare with Time to first token for the share that is waiting. A gap means that no request ended.",
        view.exported,
        m.REQUEST_DURATION_SECONDS,
    )
