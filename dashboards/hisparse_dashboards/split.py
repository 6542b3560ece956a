"""The split over time: where the tokens are, how full the pools are, what moving rows costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries as timeseries_builders

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, bounded, curves, falling, quantiles, rising, shaded
from hisparse_dashboards.queries import total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m

PER_ENGINE = "{{instance}} {{engine_name}}"


def device_tokens(view: View) -> timeseries_builders.Panel:
    """Draw used device slots, and how many of them are spare, under their capacity."""
    return curves(
        "Device tokens",
        "How many tokens have a seat on the device, and how many could? Summed over data-parallel ranks and engines. "
        "Spare is what hot buffers have grown beyond their base: a new request takes it back. Far below capacity with "
        "running requests: the batch is small, and device memory is left unused. SGLang's capacity is derived from its log, "
        "and may be missing; vLLM has no such pool.",
        palette.TOKENS,
        [
            Line(expressions.level(view, v.DEVICE_USED), "device tokens", palette.DEVICE),
            Line(expressions.level(view, v.DEVICE_SPARE), "of it spare, given back on demand", palette.SPARE),
            Line(
                expressions.capacity(view, v.DEVICE_CAPACITY, v.DEVICE_USED),
                "capacity",
                palette.CAPACITY,
                dashed=True,
            ),
        ],
        axis="tokens",
    )


def host_tokens(view: View) -> timeseries_builders.Panel:
    """Draw used host slots, and used plus reserved, under their capacity."""
    return curves(
        "Host tokens",
        "How many tokens have their home in host memory, how many more are promised to admitted requests, and how many "
        "fit? Promised at capacity: new requests wait until others end; enlarge the host pool or shorten generations. SGLang's "
        "capacity is derived from its log, and may be missing; vLLM tells shares, not tokens.",
        palette.TOKENS,
        [
            Line(expressions.level(view, v.HOST_USED), "host tokens", palette.HOST),
            Line(expressions.committed_tokens(view), "with reserved", palette.RESERVED),
            Line(
                expressions.capacity(view, v.HOST_CAPACITY, v.HOST_USED),
                "capacity",
                palette.CAPACITY,
                dashed=True,
            ),
        ],
        axis="tokens",
    )


def device_usage(view: View) -> timeseries_builders.Panel:
    """Draw each engine's fullest device pool."""
    panel = curves(
        "Device token usage",
        "How full is each engine's device pool (its fullest rank), and how much of it would hot buffers not give back? "
        "Usage near 100 % is normal: hot buffers use what there is, and what they have grown beyond their base is spare. "
        "The dashed line is for what is committed: above it new requests may wait for device slots. A gap means that the "
        "engine is down or has no device pool.",
        palette.RATIO,
        [
            Line(expressions.largest(view, v.DEVICE_TOKEN_USAGE), PER_ENGINE),
            Line(expressions.largest(view, v.DEVICE_COMMITTED), f"{PER_ENGINE} committed", palette.RESERVED),
        ],
    )
    return bounded(shaded(panel, palette.DEVICE), rising(view.limits.device_committed_warning))


def host_usage(view: View) -> timeseries_builders.Panel:
    """Draw each engine's fullest host pool, with the levels at which alerts fire."""
    panel = curves(
        "Host token usage",
        "How full is each engine's host pool (its fullest rank)? The dashed lines are the alert levels: above them admit "
        "less or enlarge the pool. A gap means that the engine is down or has no host tier.",
        palette.RATIO,
        [Line(expressions.largest(view, v.HOST_TOKEN_USAGE), PER_ENGINE)],
    )
    steps = rising(view.limits.host_usage_warning, view.limits.host_usage_critical)
    return bounded(shaded(panel, palette.HOST), steps)


def hit_ratio(view: View) -> timeseries_builders.Panel:
    """Draw the hit ratio over all selected ranks."""
    panel = curves(
        "Hit ratio",
        "What share of the top-k rows was on the device already? Every miss is a row copied over the link. Falling while "
        "the batch grows: hot buffers got too small. A gap means that nothing was looked up.",
        palette.RATIO,
        [Line(expressions.hit_ratio(view), "hits / lookups", palette.DEVICE)],
    )
    return bounded(panel, falling(view.limits.hit_ratio_warning))


def bandwidth(view: View) -> timeseries_builders.Panel:
    """Draw the traffic between the tiers, in the colour of the tier where it arrives."""
    return curves(
        "Swap-in and backup bandwidth",
        "How much moves between host and device, each way, over all selected ranks? Compare with the link of one device: "
        "select one rank. Near the link's limit steps wait for copies: raise the hit ratio.",
        palette.BYTES_PER_SECOND,
        [
            Line(
                total(view.exported.rate(m.HOST_TO_DEVICE_BYTES)), "host to device (swap-in)", palette.DEVICE
            ),
            Line(
                total(view.exported.rate(m.DEVICE_TO_HOST_BYTES)),
                "device to host (backup, staging)",
                palette.HOST,
            ),
        ],
    )


def swap_in_seconds(view: View) -> timeseries_builders.Panel:
    """Draw the time that a step spends on swap-in."""
    return quantiles(
        "Swap-in time per step",
        "How long does a step spend making its rows resident? Compare with Decode step: if it is most of a step, the hit "
        "ratio or the link is the limit. A gap means that nothing was swapped in.",
        view.exported,
        m.SWAP_IN_SECONDS,
    )
