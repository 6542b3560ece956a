"""Our own engine's stats pages in the recorded vocabulary. They carry no ``source``: that marks what a log told."""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config
from hisparse_dashboards.queries import Scope, existing, ratio
from hisparse_metrics import catalogue as m

FROM_PAGES = ('source=""',)


def rules(config: Config) -> dict[str, str]:
    """Return name → expression; a pool of capacity 0 does not exist and has no usage."""
    scope = Scope(FROM_PAGES, config.rate_window)
    device_used, spare = scope.gauge(m.DEVICE_TOKENS), scope.gauge(m.DEVICE_TOKENS_SPARE)
    device_capacity = scope.gauge(m.DEVICE_TOKEN_CAPACITY)
    used, reserved = scope.gauge(m.HOST_TOKENS), scope.gauge(m.HOST_TOKENS_RESERVED)
    capacity = scope.gauge(m.HOST_TOKEN_CAPACITY)
    index_capacity = scope.gauge(m.INDEX_TOKEN_CAPACITY)
    silence = f"time() - {scope.gauge(m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)}"
    up, running = scope.gauge(m.ENGINE_UP), scope.gauge(m.RUNNING_REQUESTS)
    return {
        v.DEVICE_USED: device_used,
        v.DEVICE_CAPACITY: device_capacity,
        v.DEVICE_SPARE: spare,
        v.DEVICE_TOKEN_USAGE: existing(scope, m.DEVICE_TOKEN_USAGE, m.DEVICE_TOKEN_CAPACITY),
        # Without the second branch engines of a version that does not tell what is spare would have no alert.
        v.DEVICE_COMMITTED: ratio(f"({device_used} - {spare} or {device_used})", device_capacity),
        # A request is promised as many index keys as host slots.
        v.INDEX_COMMITTED: ratio(f"({scope.gauge(m.INDEX_TOKENS)} + {reserved})", index_capacity),
        v.HOST_USED: used,
        v.HOST_CAPACITY: capacity,
        v.HOST_CACHED: scope.gauge(m.HOST_TOKENS_CACHED),
        v.HOST_TOKEN_USAGE: existing(scope, m.HOST_TOKEN_USAGE, m.HOST_TOKEN_CAPACITY),
        v.HOST_COMMITTED: ratio(f"({used} + {reserved})", capacity),
        v.HIT_RATIO: ratio(scope.rate(m.SWAP_IN_HITS), scope.rate(m.SWAP_IN_LOOKUPS)),
        v.MISSES: scope.rate(m.SWAP_IN_MISSES),
        v.HOST_TO_DEVICE: scope.rate(m.HOST_TO_DEVICE_BYTES),
        v.DEVICE_TO_HOST: scope.rate(m.DEVICE_TO_HOST_BYTES),
        v.GENERATION: scope.rate(m.GENERATION_TOKENS),
        v.PROMPT: scope.rate(m.PROMPT_TOKENS),
        v.RUNNING: running,
        v.WAITING: scope.gauge(m.WAITING_REQUESTS),
        v.REFUSED: scope.matching('outcome="rejected"').rate(m.REQUESTS),
        v.RETRACTIONS: scope.rate(m.RETRACTIONS),
        v.ENGINE_UP: up,
        v.SINCE_LAST_STEP: silence,
        v.STALLED: f"({silence} > bool {config.thresholds.stalled_seconds}) * ({running} > bool 0) * {up}",
        v.VERIFY_MISMATCHES: scope.counter(m.VERIFY_MISMATCHES),
        v.INVARIANT_VIOLATIONS: scope.counter(m.INVARIANT_VIOLATIONS),
    }
