"""Colours and units with one meaning each, on every panel.

The colours are Okabe and Ito's, which stay apart for every common kind of colour blindness and in print.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

DEVICE = "#0072B2"
"""Whatever is on the device or arrives there."""
HOST = "#E69F00"
"""Whatever is on the host or arrives there."""
RESERVED = "#CC79A7"
"""Promised, not yet used."""
SPARE = "#56B4E9"
"""Used on the device, given back on demand."""
CAPACITY = "#7F7F7F"
"""A limit."""
GOOD = "#009E73"
WARNING = "#F0E442"
CRITICAL = "#D55E00"
NEUTRAL = "#56B4E9"

PROMPT = "#CC79A7"
GENERATION = "#009E73"
RUNNING = "#009E73"
STAGING = "#56B4E9"
WAITING = "#D55E00"
QUANTILES = {0.5: "#56B4E9", 0.95: "#CC79A7", 0.99: "#D55E00"}
"""p50, p95, p99: the same three lines on every latency panel."""

OUTCOMES = {
    "stop": GENERATION,
    "length": STAGING,
    "aborted": CAPACITY,
    "rejected": HOST,
    "failed": CRITICAL,
}
"""How a request ended."""
LINES = {"parsed": GOOD, "ignored": CAPACITY, "malformed": CRITICAL}
"""What became of a line of a log."""
STATES = {"working": GOOD, "idle": NEUTRAL, "stalled": CRITICAL, "silent": CAPACITY, "dead": "#000000"}
"""What a log tells of its engine."""
CACHE = "#CC79A7"
"""vLLM's device blocks: a cache of the host pool, and so another thing than :data:`DEVICE`."""

TOKENS = units.Short
RATIO = units.PercentUnit
SECONDS = units.Seconds
BYTES_PER_SECOND = units.BytesPerSecondIEC
COUNT = units.Short
"""Token rates too: Grafana has no tokens per second, so the axis label says it."""
BYTES = units.BytesIEC
REQUESTS_PER_SECOND = units.RequestsPerSecond
PER_SECOND = units.CountsPerSecond
MOMENT = units.DateTimeFromNow
"""Of milliseconds since 1970: a moment, said as a distance from now."""
