"""Alerts about the host pool: is there a home for every row, now and soon."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.alerts.wording import COUNT, DURATION, PERCENT, WHO
from hisparse_dashboards.config import Config, Thresholds, seconds
from hisparse_dashboards.rules import Alert


def alerts(config: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    limits = config.thresholds
    yield host_pool_full(limits)
    yield host_allocations_fail(config)
    yield host_usage_critical(limits)
    yield host_usage_warning(limits)
    yield host_exhaustion_predicted(limits)


def host_pool_full(limits: Thresholds) -> Alert:
    """Tell that requests wait or are refused because every host slot is used or promised."""
    return Alert(
        "HiSparseHostPoolFull",
        "critical",
        v.same_rank(
            v.no_room(v.HOST_COMMITTED, limits.host_pool_full), f"{v.WAITING} > 0 or {v.REFUSED} > 0"
        ),
        "2m",
        f"{WHO}: {PERCENT} of the host pool is used or promised, and requests wait or are refused",
        "The host slots that are neither used nor reserved for tokens still to be generated do not suffice for one more "
        "request like those that run. "
        "Likely causes: more or longer requests than the pool was sized for, or one rank getting too many of them. "
        "First: send new requests elsewhere or lower the generation limit, then enlarge the host pool.",
    )


def host_allocations_fail(config: Config) -> Alert:
    """Tell that SGLang asked its host pool for pages and got none: the failure that ends decoding."""
    return Alert(
        "HiSparseHostPoolFull",
        "critical",
        f'{seconds(config.rate_window)} * {v.REFUSED}{{engine="sglang"}} > 0',
        "0m",
        f"{WHO}: {COUNT} failed host allocations in {config.rate_window}",
        "SGLang logged that its host pool could not give a request the pages it needs; decoding of that request ends, or "
        "the scheduler does. Likely causes: generations grew past what admission counted (it counts the prompt only), or "
        "the pool is too small. First: lower the number of running requests or the generation limit, then raise "
        "host_to_device_ratio.",
        engine="sglang",
    )


def host_usage_critical(limits: Thresholds) -> Alert:
    """Tell that a host pool is nearly full."""
    return _host_usage(
        "critical",
        limits.host_usage_critical,
        "2m",
        "The host pool is about to be full: new requests will wait, and running ones may be retracted.",
    )


def host_usage_warning(limits: Thresholds) -> Alert:
    """Tell that a host pool is filling up."""
    return _host_usage(
        "warning",
        limits.host_usage_warning,
        "5m",
        "The host pool is filling up; there is still time to act before requests wait.",
    )


def host_exhaustion_predicted(limits: Thresholds) -> Alert:
    """Tell that a host pool would be full soon if it went on filling as it does."""
    return Alert(
        "HiSparseHostExhaustionPredicted",
        "warning",
        v.same_rank(
            f"{v.HOST_TIME_TO_FULL} < {limits.host_exhaustion_seconds}",
            f"{v.HOST_TOKEN_USAGE} > {limits.host_exhaustion_floor:g}",
        ),
        "5m",
        f"{WHO}: host pool full in {DURATION} if it goes on filling like this",
        "The host pool fills at a rate that leaves little time. Likely causes: a wave of long prompts, generations that "
        "run on, or requests that do not end. First: look at Requests and Host tokens; if it is load, admit less now.",
    )


def _host_usage(severity: str, threshold: float, hold: str, meaning: str) -> Alert:
    return Alert(
        "HiSparseHostUsageHigh",
        severity,
        f"{v.HOST_TOKEN_USAGE} > {threshold:g}",
        hold,
        f"{WHO}: host pool {PERCENT} full",
        f"{meaning} Likely causes: many long requests at once, or a pool too small for the load. First: look at Host "
        "tokens on the HiSparse Engine dashboard; if the growth goes on, limit admission or enlarge the host pool.",
    )
