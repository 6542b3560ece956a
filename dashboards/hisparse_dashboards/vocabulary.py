"""The recorded vocabulary, ``hisparse:<thing>:<unit>``: one name for one thing, whichever engine it comes from.

Every recorded series has the label ``engine`` (``hisparse``, ``sglang``, ``vllm``) and the labels of a rank. Alerts and
fleet views read these names only. Which source fills a name, and what it means there, is in :mod:`.recording`.
"""

from __future__ import annotations

from hisparse_dashboards.queries import IDENTITY

ENGINES = ("hisparse", "sglang", "vllm")
"""The values of the label ``engine``."""


def recorded(thing: str, unit: str) -> str:
    """Name the recorded series of ``thing``."""
    return f"hisparse:{thing}:{unit}"


DEVICE_USED = recorded("device_used", "tokens")
DEVICE_CAPACITY = recorded("device_capacity", "tokens")
DEVICE_SPARE = recorded("device_spare", "tokens")
"""Our engine only: used slots that hot buffers would give back to a new request."""
DEVICE_TOKEN_USAGE = recorded("device_token_usage", "ratio")
"""Hot buffers over the device pool. vLLM has no such pool: see :data:`DEVICE_CACHE_USAGE`."""
DEVICE_COMMITTED = recorded("device_committed", "ratio")
"""Used device slots that are not spare, over capacity: at 1 nothing more can be admitted. The usage where none is spare."""
INDEX_COMMITTED = recorded("index_committed", "ratio")
"""Our engine only: used and promised index keys over their capacity: at 1 nothing more can be admitted."""
DEVICE_CACHE_USAGE = recorded("device_cache_usage", "ratio")
"""vLLM only: its device blocks are an evictable cache of the host pool, so its usage is another thing."""
HOST_USED = recorded("host_used", "tokens")
HOST_CAPACITY = recorded("host_capacity", "tokens")
HOST_TOKEN_USAGE = recorded("host_token_usage", "ratio")
HOST_CACHED = recorded("host_cached", "tokens")
"""Our engine only: slots with rows of ended requests, kept for reuse; they count as free."""
HOST_CACHE_USAGE = recorded("host_cache_usage", "ratio")
"""vLLM's block gauges only: evictable blocks count as used there, so a warm cache looks full; no alert reads it."""
HOST_COMMITTED = recorded("host_committed", "ratio")
"""Used and promised host slots over capacity: at 1 nothing more can be admitted. The usage where nothing is promised."""
HOST_TIME_TO_FULL = recorded("host_time_to_full", "seconds")
"""When the host pool is full if it goes on filling as it does; absent while it does not fill."""

HIT_RATIO = recorded("swap_in_hit", "ratio")
MISSES = recorded("swap_in_misses", "tokens_per_second")
HOST_TO_DEVICE = recorded("host_to_device", "bytes_per_second")
DEVICE_TO_HOST = recorded("device_to_host", "bytes_per_second")
BACKUP_PENDING = recorded("backup_pending", "pages")
"""vLLM only: pages that still have to be copied to the host."""

GENERATION = recorded("generation", "tokens_per_second")
PROMPT = recorded("prompt", "tokens_per_second")
RUNNING = recorded("running", "requests")
WAITING = recorded("waiting", "requests")
REFUSED = recorded("refused", "requests_per_second")
"""Requests that got no host slots: refused by our engine, failed allocations of SGLang."""
RETRACTIONS = recorded("retractions", "requests_per_second")

ENGINE_UP = recorded("engine_up", "bool")
SINCE_LAST_STEP = recorded("since_last_step", "seconds")
STALLED = recorded("stalled", "bool")
"""1 while there is work and no step is taken."""
VERIFY_MISMATCHES = recorded("verify_mismatches", "checks")
INVARIANT_VIOLATIONS = recorded("invariant_violations", "violations")

RANK = ("engine", *IDENTITY)
"""The labels of one rank in this vocabulary."""


def same_rank(expr: str, condition: str) -> str:
    """Keep the series of ``expr`` whose rank satisfies ``condition``."""
    return f"{expr} and on ({', '.join(RANK)}) ({condition})"


def no_room(share: str, full: float) -> str:
    """Keep the shares of a pool that leave no room: ``full``, or not enough for one more request of average size."""
    return f"({share} >= {full:g} or {share} and {share} * (1 + 1 / ({RUNNING} > 0)) >= 1)"


def unless_same_rank(expr: str, condition: str) -> str:
    """Drop the series of ``expr`` whose rank satisfies ``condition``."""
    return f"{expr} unless on ({', '.join(RANK)}) ({condition})"
