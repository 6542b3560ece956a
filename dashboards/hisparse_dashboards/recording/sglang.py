"""SGLang as the sidecar reads it from its decode log: the same metrics, with the label ``source``.

A log has no hit ratio and no bytes, its capacities are derived or absent, and its levels end when the log is silent.
Nothing here needs a capacity, so a usage is recorded also where none is known.
"""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config
from hisparse_dashboards.queries import Scope
from hisparse_metrics import catalogue as m

FROM_LOGS = ('source!=""',)


def rules(config: Config) -> dict[str, str]:
    """Return name → expression."""
    scope = Scope(FROM_LOGS, config.rate_window)
    last_step = scope.gauge(m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)
    up, silence = scope.gauge(m.ENGINE_UP), f"time() - {last_step}"
    gone = f"{up} == 0 and {silence} > {config.thresholds.dead_log_seconds}"
    stalled = scope.matching('state="stalled"').gauge(m.SOURCE_STATE)
    return {
        v.DEVICE_USED: scope.gauge(m.DEVICE_TOKENS),
        v.DEVICE_CAPACITY: scope.gauge(m.DEVICE_TOKEN_CAPACITY),
        v.DEVICE_TOKEN_USAGE: scope.gauge(m.DEVICE_TOKEN_USAGE),
        v.DEVICE_COMMITTED: scope.gauge(m.DEVICE_TOKEN_USAGE),
        v.HOST_USED: scope.gauge(m.HOST_TOKENS),
        v.HOST_CAPACITY: scope.gauge(m.HOST_TOKEN_CAPACITY),
        v.HOST_TOKEN_USAGE: scope.gauge(m.HOST_TOKEN_USAGE),
        v.HOST_COMMITTED: scope.gauge(m.HOST_TOKEN_USAGE),
        v.GENERATION: scope.gauge(m.GENERATION_TOKENS_PER_SECOND),
        v.PROMPT: scope.rate(m.PROMPT_TOKENS),
        v.RUNNING: scope.gauge(m.RUNNING_REQUESTS),
        v.WAITING: scope.gauge(m.WAITING_REQUESTS),
        v.REFUSED: scope.rate(m.HOST_ALLOCATION_FAILURES),
        v.RETRACTIONS: scope.rate(m.RETRACTIONS),
        v.ENGINE_UP: f"{up} unless ({gone})",
        v.SINCE_LAST_STEP: silence,
        # The state is the log's; every rank that writes it has it.
        v.STALLED: f"0 * {last_step} + on (job, instance, source) group_left () {stalled}",
    }
