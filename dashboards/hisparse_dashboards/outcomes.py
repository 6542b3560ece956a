"""What became of requests: ended, refused, retracted, spared some prefill."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, bounded, curves
from hisparse_dashboards.queries import largest_by, ratio, total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def outcomes(view: View) -> timeseries.Panel:
    """Draw requests by how they ended."""
    lines = [
        Line(
            view.once_per_token(view.exported.matching(f'outcome="{outcome}"').rate(m.REQUESTS)),
            outcome,
            color,
        )
        for outcome, color in palette.OUTCOMES.items()
    ]
    return curves(
        "Requests by outcome",
        "How do requests end? stop and length are good ends. rejected: they could never fit, or the queue is full; aborted: "
        "the client went away; failed: look in the engine's log.",
        palette.REQUESTS_PER_SECOND,
        lines,
    )


def retractions(view: View) -> timeseries.Panel:
    """Draw retractions against the level of their alert."""
    per_minute = f"60 * {expressions.level(view, v.RETRACTIONS)}"
    return curves(
        "Retractions per minute",
        f"How often does a running request give up its slots? Each computes again what it had. Above "
        f"{view.limits.retractions_per_minute:g} in one rank HiSparseRetractionStorm fires: reserve the worst case or admit "
        "less. vLLM's are preemptions.",
        palette.COUNT,
        [Line(per_minute, "retractions", palette.CRITICAL)],
        axis="per minute",
    )


def refused(view: View) -> timeseries.Panel:
    """Draw requests that got no host slots."""
    return curves(
        "Refused for lack of host slots",
        "How many requests per second got no host slots? Ours refuses what can never fit; SGLang fails to allocate, which "
        "ends the request: lower the number of running requests (runbook HiSparseHostPoolFull). vLLM does not tell it.",
        palette.REQUESTS_PER_SECOND,
        [Line(expressions.level(view, v.REFUSED), "refused", palette.CRITICAL)],
    )


def prefix_hits(view: View) -> timeseries.Panel:
    """Draw how much prefill was spared."""
    spared = total(largest_by(view.owner, view.exported.rate(m.PREFIX_HIT_TOKENS)))
    computed = total(largest_by(view.owner, view.exported.rate(m.PROMPT_TOKENS)))
    panel = curves(
        "Prompt tokens reused",
        "What share of prompt tokens had been computed for another request already? Low with prompts that begin alike: the "
        "prefixes are gone from the host pool before they are asked for again. A gap means that no prompt came.",
        palette.RATIO,
        [Line(ratio(f"{spared}", f"({spared} + {computed})"), "reused", palette.PROMPT)],
    )
    return bounded(panel)


def kept_rows(view: View) -> timeseries.Panel:
    """Draw the rows of ended requests that are kept in free host slots."""
    return curves(
        "Host tokens kept for reuse",
        "How much of the free host pool still holds rows of ended requests? They spare prefill when a prompt begins alike, "
        "and give way as soon as others need the room; near 0 with a full pool, prefixes do not live long enough.",
        palette.TOKENS,
        [
            Line(expressions.level(view, v.HOST_CACHED), "host tokens kept (free)", palette.HOST),
            Line(
                expressions.capacity(view, v.HOST_CAPACITY, v.HOST_CACHED),
                "capacity",
                palette.CAPACITY,
                dashed=True,
            ),
        ],
        axis="tokens",
    )
