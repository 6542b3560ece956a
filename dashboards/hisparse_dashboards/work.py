"""What the engine does with its time, and what users feel of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries as timeseries_builders

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, curves, quantiles
from hisparse_dashboards.queries import total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def throughput(view: View) -> timeseries_builders.Panel:
    """Draw prompt and generated tokens per second."""
    return curves(
        "Throughput",
        "How many tokens per second are generated, and how many prompt tokens are prefilled? Generation that falls while "
        "prompts rise is prefill taking turns; one that falls alone: look at Hit ratio and Decode step.",
        palette.COUNT,
        [
            Line(
                total(view.of_every_engine(view.exported.rate(m.GENERATION_TOKENS), v.GENERATION)),
                "generated",
                palette.GENERATION,
            ),
            Line(
                total(view.of_every_engine(view.exported.rate(m.PROMPT_TOKENS), v.PROMPT)),
                "prompt",
                palette.PROMPT,
            ),
        ],
        axis="tokens/s",
    )


def requests(view: View) -> timeseries_builders.Panel:
    """Draw running, staging and waiting requests."""
    return curves(
        "Requests",
        "How many requests decode, how many are being prefilled or staged, and how many wait for admission? Waiting that "
        "does not go back to 0: see Host tokens for the reason.",
        palette.COUNT,
        [
            Line(expressions.level(view, v.RUNNING), "running", palette.RUNNING),
            Line(view.once_per_token(view.exported.gauge(m.STAGING_REQUESTS)), "staging", palette.STAGING),
            Line(expressions.level(view, v.WAITING), "waiting", palette.WAITING),
        ],
        axis="requests",
    )


def first_token(view: View) -> timeseries_builders.Panel:
    """Draw the time to first token."""
    return quantiles(
        "Time to first token",
        "How long does a user wait before anything happens? Includes waiting for admission and prefill: rising with "
        "Waiting is lack of room, rising without it is long prompts. A gap means that no request got its first token.",
        view.exported,
        m.TIME_TO_FIRST_TOKEN_SECONDS,
    )


def inter_token(view: View) -> timeseries_builders.Panel:
    """Draw the time between tokens."""
    return quantiles(
        "Inter-token latency",
        "How smoothly do tokens arrive? A p99 far above p50: prefill chunks or swap-in bursts stand between tokens. A gap "
        "means that nothing was generated.",
        view.exported,
        m.INTER_TOKEN_LATENCY_SECONDS,
    )


def decode_step(view: View) -> timeseries_builders.Panel:
    """Draw the duration of a decode step."""
    return quantiles(
        "Decode step",
        "How long is one step of the whole batch? It grows with the batch and with misses; compare with Swap-in time per "
        "step. A gap means that no step was taken.",
        view.exported,
        m.DECODE_STEP_SECONDS,
    )
