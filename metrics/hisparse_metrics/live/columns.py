"""The columns of the history: what is kept of every rank, and how the ranks of one column become one figure.

Tokens and requests that tensor-, pipeline- and expert-parallel ranks of an engine share are counted once, as the
dashboards do. Ratios over several ranks are made from sums, quantiles from all observations: neither is averaged.
"""

from __future__ import annotations

import math
from enum import Enum, auto

NAN = math.nan


class Combine(Enum):
    """How the values of several ranks become one."""

    ONCE_PER_TOKEN = auto()
    """The largest of the ranks that share tokens, then the sum."""
    SUM = auto()
    LARGEST = auto()
    DERIVED = auto()
    """Made from what the ranks observed."""


_O, _S, _L, _D = Combine.ONCE_PER_TOKEN, Combine.SUM, Combine.LARGEST, Combine.DERIVED

COLUMNS: dict[str, Combine] = {
    "device_tokens": _O, "device_spare": _O, "device_capacity": _O, "device_usage": _L, "device_usage_committed": _L,
    "host_tokens": _O, "host_committed": _O, "host_capacity": _O, "host_usage": _L,
    "hit_ratio": _D, "host_to_device": _S, "device_to_host": _S,
    "generation": _O, "prompt": _O,
    "running": _O, "staging": _O, "waiting": _O,
    "step_p50": _D, "step_p95": _D, "step_p99": _D,
    "swap_in_p50": _D, "swap_in_p95": _D, "swap_in_p99": _D,
}  # fmt: skip
"""Every column in order. Tokens, requests, ratios and seconds; ``generation`` to ``device_to_host`` per second."""

WIDTH = len(COLUMNS)
INDEX: dict[str, int] = {name: index for index, name in enumerate(COLUMNS)}

LEVELS = (
    "device_tokens", "device_spare", "device_capacity", "device_usage", "device_usage_committed",
    "host_tokens", "host_committed", "host_capacity", "host_usage", "running", "staging", "waiting", "generation",
)  # fmt: skip
"""Columns that a reading may state; ``generation`` only where the engine says a rate instead of counting."""

RATES = ("generation", "prompt", "host_to_device", "device_to_host")
"""Columns that are a total's increase per second."""

DURATIONS = ("step", "swap_in")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
