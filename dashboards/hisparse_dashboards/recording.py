"""Recording rules: one vocabulary, ``hisparse:<thing>:<unit>``, that alerts and fleet views read for every engine.

An engine that names or counts things differently joins by one more function beside :func:`hisparse_engine`; its
series carry another value of the ``engine`` label, and nothing that reads the vocabulary changes.
"""

from __future__ import annotations

from hisparse_dashboards.config import Config
from hisparse_dashboards.queries import IDENTITY, everything, ratio, recorded, where
from hisparse_dashboards.rules import Recording
from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric

DEVICE_USED = recorded("device_used", "tokens")
DEVICE_CAPACITY = recorded("device_capacity", "tokens")
DEVICE_TOKEN_USAGE = recorded("device_token_usage", "ratio")
HOST_USED = recorded("host_used", "tokens")
HOST_CAPACITY = recorded("host_capacity", "tokens")
HOST_TOKEN_USAGE = recorded("host_token_usage", "ratio")
HOST_COMMITTED = recorded("host_committed", "ratio")
"""Used and promised host slots over capacity: at 1 nothing more can be admitted."""
HIT_RATIO = recorded("swap_in_hit", "ratio")
HOST_TO_DEVICE = recorded("host_to_device", "bytes_per_second")
DEVICE_TO_HOST = recorded("device_to_host", "bytes_per_second")
GENERATION = recorded("generation", "tokens_per_second")
PROMPT = recorded("prompt", "tokens_per_second")
RUNNING = recorded("running", "requests")
WAITING = recorded("waiting", "requests")
ENGINE_UP = recorded("engine_up", "bool")
SINCE_LAST_STEP = recorded("since_last_step", "seconds")


def hisparse_engine(config: Config) -> list[Recording]:
    """Record our own engine's series; a pool of capacity 0 does not exist and has no usage."""
    scope = everything(config.rate_window)
    used, reserved = scope.gauge(m.HOST_TOKENS), scope.gauge(m.HOST_TOKENS_RESERVED)
    rules = {
        DEVICE_USED: scope.gauge(m.DEVICE_TOKENS),
        DEVICE_CAPACITY: scope.gauge(m.DEVICE_TOKEN_CAPACITY),
        DEVICE_TOKEN_USAGE: _usage(m.DEVICE_TOKEN_USAGE, m.DEVICE_TOKEN_CAPACITY),
        HOST_USED: used,
        HOST_CAPACITY: scope.gauge(m.HOST_TOKEN_CAPACITY),
        HOST_TOKEN_USAGE: _usage(m.HOST_TOKEN_USAGE, m.HOST_TOKEN_CAPACITY),
        HOST_COMMITTED: ratio(f"({used} + {reserved})", scope.gauge(m.HOST_TOKEN_CAPACITY)),
        HIT_RATIO: ratio(scope.rate(m.SWAP_IN_HITS), scope.rate(m.SWAP_IN_LOOKUPS)),
        HOST_TO_DEVICE: scope.rate(m.HOST_TO_DEVICE_BYTES),
        DEVICE_TO_HOST: scope.rate(m.DEVICE_TO_HOST_BYTES),
        GENERATION: scope.rate(m.GENERATION_TOKENS),
        PROMPT: scope.rate(m.PROMPT_TOKENS),
        RUNNING: scope.gauge(m.RUNNING_REQUESTS),
        WAITING: scope.gauge(m.WAITING_REQUESTS),
        ENGINE_UP: scope.gauge(m.ENGINE_UP),
        SINCE_LAST_STEP: f"time() - {scope.gauge(m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)}",
    }
    return [Recording(name, expr, {"engine": "hisparse"}) for name, expr in rules.items()]


def same_rank(expr: str, condition: str) -> str:
    """Keep the series of ``expr`` whose rank satisfies ``condition``."""
    return f"{expr} and on ({', '.join(('engine', *IDENTITY))}) ({condition})"


def _usage(usage: Metric, capacity: Metric) -> str:
    scope = everything("")
    return where(scope.gauge(usage), f"{scope.gauge(capacity)} > 0")
