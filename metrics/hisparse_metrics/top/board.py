"""From readings to snapshots: keeps every rank's history, and what became of the source."""

from __future__ import annotations

from dataclasses import replace

from hisparse_metrics import catalogue as m
from hisparse_metrics.top.history import CurvePoint, RankHistory
from hisparse_metrics.top.names import short_names
from hisparse_metrics.top.reading import Engine, RankKey, RankSample, Reading, printable
from hisparse_metrics.top.state import State, state_of
from hisparse_metrics.top.totals import total
from hisparse_metrics.top.view import RankView, Snapshot
from hisparse_metrics.top.vocabulary import Vocabulary


class Board:
    """Take every reading or failure; :meth:`snapshot` tells what is known then. Ranks that vanish are forgotten."""

    def __init__(self, about: str, interval: float, vocabulary: Vocabulary) -> None:
        self._about, self._interval, self._vocabulary = printable(about), interval, vocabulary
        self._histories: dict[RankKey, RankHistory] = {}
        self._ranks: tuple[RankView, ...] = ()
        self._last: Reading | None = None
        self._trouble = ""

    def take(self, reading: Reading) -> None:
        """Add a reading."""
        self._trouble, self._last = "", reading
        self._histories = {
            rank.key: self._histories.get(rank.key) or RankHistory(rank.engine) for rank in reading.ranks
        }
        names = short_names(self._histories)
        self._ranks = tuple(self._view(rank, reading, names[rank.key]) for rank in reading.ranks)

    def fail(self, message: str) -> None:
        """Remember that the source could not be read, and why; its last figures stay, marked as such."""
        self._trouble = message

    def snapshot(self, time: float, moment: float) -> Snapshot:
        """Return what is known; ``time`` and ``moment`` as in a reading."""
        ranks = self._ranks
        if self._trouble:
            ranks = tuple(replace(rank, state=State.UNREAD) for rank in ranks)
        return Snapshot(
            about=self._about,
            time=time,
            interval=self._interval,
            ranks=ranks,
            totals=total(ranks),
            note=printable(self._last.note) if self._last else "",
            trouble=self._trouble,
            read_ago=max(moment - self._last.moment, 0.0) if self._last else None,
        )

    def _view(self, sample: RankSample, reading: Reading, name: str) -> RankView:
        history = self._histories[sample.key]
        host_usage = _usage(sample, m.HOST_TOKEN_USAGE.name, m.HOST_TOKEN_CAPACITY.name)
        history.add(sample, reading.moment, host_usage)
        view = self._figures(sample, history, reading.time, host_usage, name)
        history.draw_on(
            CurvePoint(
                reading.moment, view.device_usage, view.host_usage, view.hit_ratio, view.tokens_per_second
            )
        )
        return replace(view, curve=history.curve)

    def _figures(
        self, sample: RankSample, history: RankHistory, now: float, host_usage: float | None, name: str
    ) -> RankView:
        since = _since_step(sample, history, now)
        state = state_of(sample, since, self._vocabulary.stalled_seconds)
        is_dead = state is State.DOWN
        return RankView(
            key=sample.key,
            name=name,
            engine=sample.engine.value,
            state=state,
            about=_about(sample),
            running=sample.value(m.RUNNING_REQUESTS),
            staging=sample.value(m.STAGING_REQUESTS),
            waiting=sample.value(m.WAITING_REQUESTS),
            device_tokens=sample.value(m.DEVICE_TOKENS),
            device_capacity=sample.value(m.DEVICE_TOKEN_CAPACITY),
            device_usage=_usage(sample, m.DEVICE_TOKEN_USAGE.name, m.DEVICE_TOKEN_CAPACITY.name),
            device_spare=sample.value(m.DEVICE_TOKENS_SPARE),
            host_tokens=sample.value(m.HOST_TOKENS),
            host_capacity=sample.value(m.HOST_TOKEN_CAPACITY),
            host_usage=host_usage,
            host_reserved=sample.value(m.HOST_TOKENS_RESERVED),
            host_growth=history.usage_growth(),
            tokens_per_second=None if is_dead else _throughput(sample, history),
            hit_ratio=None if is_dead else _hit_ratio(history),
            lookups_per_second=None if is_dead else history.rate(m.SWAP_IN_LOOKUPS),
            host_to_device=None if is_dead else history.rate(m.HOST_TO_DEVICE_BYTES),
            device_to_host=None if is_dead else history.rate(m.DEVICE_TO_HOST_BYTES),
            step_p50=history.step_quantile(0.5),
            step_p99=history.step_quantile(0.99),
            retractions=sample.value(m.RETRACTIONS),
            retractions_per_second=history.rate(m.RETRACTIONS),
            mismatches=sample.value(m.VERIFY_MISMATCHES),
            violations=sample.value(m.INVARIANT_VIOLATIONS),
            since_step=since,
            uptime=_uptime(sample, now),
        )


def _usage(sample: RankSample, usage: str, capacity: str) -> float | None:
    """Return a usage; a pool of capacity 0 does not exist and has none."""
    return None if sample.values.get(capacity) == 0 else sample.values.get(usage)


def _throughput(sample: RankSample, history: RankHistory) -> float | None:
    logged = sample.value(m.GENERATION_TOKENS_PER_SECOND)
    return history.rate(m.GENERATION_TOKENS) if logged is None else logged


def _hit_ratio(history: RankHistory) -> float | None:
    hits, lookups = history.increase(m.SWAP_IN_HITS), history.increase(m.SWAP_IN_LOOKUPS)
    return hits / lookups if hits is not None and lookups else None


def _since_step(sample: RankSample, history: RankHistory, now: float) -> float | None:
    """Trust our own eyes before two clocks: an engine on another host may be ahead or behind."""
    last = sample.value(m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)
    if not last:
        return None
    seen = history.since_seen_stepping()
    by_clock = max(now - last, 0.0)
    return by_clock if seen is None else min(by_clock, seen)


def _uptime(sample: RankSample, now: float) -> float | None:
    started = sample.value(m.ENGINE_START_TIME_SECONDS)
    return max(now - started, 0.0) if started and sample.value(m.ENGINE_UP) else None


def _about(sample: RankSample) -> str:
    known = [sample.info.get(name, "") for name in ("version", "mode", "device", "dtype")]
    what = [sample.key.model_name, *known] if sample.engine is Engine.HISPARSE else [
        sample.key.model_name, sample.engine.value, sample.key.source,
    ]  # fmt: skip
    return printable(" · ".join(filter(None, what)))
