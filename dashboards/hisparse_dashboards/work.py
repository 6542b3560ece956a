"""What the engine does with its time, and what users feel of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries as timeseries_builders

from hisparse_dashboards import expressions, palette
from hisparse_dashboards.panels import Line, curves, quantiles
from hisparse_dashboards.queries import DASHBOARD, once_per_token
from hisparse_metrics import catalogue as m


def throughput() -> timeseries_builders.Panel:
    """Draw prompt and generated tokens per second."""
    return curves(
        "Throughput",
        "How many tokens per second are generated, and how many prompt tokens are prefilled? Generation that falls while "
        "prompts rise is prefill taking turns; one that falls alone: look at Hit ratio and Decode step.",
        palette.COUNT,
        [
            Line(once_per_token(DASHBOARD.rate(m.GENERATION_TOKENS)), "generated", palette.GENERATION),
            Line(once_per_token(DASHBOARD.rate(m.PROMPT_TOKENS)), "prompt", palette.PROMPT),
        ],
        axis="tokens/s",
    )


def requests() -> timeseries_builders.Panel:
    """Draw running, staging and waiting requests."""
    return curves(
        "Requests",
        "How many requests decode, how many are being prefilled or staged, and how many wait for admission? Waiting that "
        "does not go back to 0: see Host tokens for the reason.",
        palette.COUNT,
        [
            Line(expressions.tokens(m.RUNNING_REQUESTS), "running", palette.RUNNING),
            Line(expressions.tokens(m.STAGING_REQUESTS), "staging", palette.STAGING),
            Line(expressions.tokens(m.WAITING_REQUESTS), "waiting", palette.WAITING),
        ],
        axis="requests",
    )


def first_token() -> timeseries_builders.Panel:
    """Draw the time to first token."""
    return quantiles(
        "Time to first token",
        "How long does a user wait before anything happens? Includes waiting for admission and prefill: rising with "
        "Waiting is lack of room, rising without it is long prompts. A gap means that no request got its first token.",
        m.TIME_TO_FIRST_TOKEN_SECONDS,
    )


def inter_token() -> timeseries_builders.Panel:
    """Draw the time between tokens."""
    return quantiles(
        "Inter-token latency",
        "How smoothly do tokens arrive? A p99 far above p50: prefill chunks or swap-in bursts stand between tokens. A gap "
        "means that nothing was generated.",
        m.INTER_TOKEN_LATENCY_SECONDS,
    )


def decode_step() -> timeseries_builders.Panel:
    """Draw the duration of a decode step."""
    return quantiles(
        "Decode step",
        "How long is one step of the whole batch? It grows with the batch and with misses; compare with Swap-in time per "
        "step. A gap means that no step was taken.",
        m.DECODE_STEP_SECONDS,
    )
