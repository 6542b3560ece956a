"""What a rank is doing, in one word. Pure."""

from __future__ import annotations

from enum import StrEnum

from hisparse_metrics import catalogue
from hisparse_metrics.top.reading import RankSample


class State(StrEnum):
    """Worst first, as ranks are sorted by it."""

    DOWN = "down"
    STALLED = "stalled"
    """Alive, with running requests and without a step."""
    UNREAD = "unread"
    """The source does not answer: these are the last figures that it gave."""
    SILENT = "silent"
    """A log without any line for a while: idle, hung or gone; it does not tell."""
    UP = "up"
    IDLE = "idle"
    """Alive with nothing to do."""


_OF_LOG = {"dead": State.DOWN, "stalled": State.STALLED, "silent": State.SILENT, "idle": State.IDLE}
_WORK = (catalogue.RUNNING_REQUESTS, catalogue.STAGING_REQUESTS, catalogue.WAITING_REQUESTS)


def state_of(sample: RankSample, since_step: float | None, stalled_seconds: float) -> State:
    """Judge a sample; a log's verdict on its engine is the sidecar's."""
    if sample.log_state in _OF_LOG:
        return _OF_LOG[sample.log_state]
    if sample.value(catalogue.ENGINE_UP) == 0:
        return State.DOWN
    if not any(sample.value(metric) for metric in _WORK):
        return State.IDLE
    running = sample.value(catalogue.RUNNING_REQUESTS)
    if running and since_step is not None and since_step >= stalled_seconds:
        return State.STALLED
    return State.UP
