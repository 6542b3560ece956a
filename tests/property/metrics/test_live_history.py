"""Whatever happens, and when: no peak is lost, memory stays what it was, and time goes on."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.live.columns import INDEX
from hisparse_metrics.live.history import ALL, History
from hisparse_metrics.live.rows import RankRows
from hisparse_metrics.live.track import COARSE, FINE
from tests.unit.live.support import reading, row

VALUES = st.one_of(st.just(math.nan), st.floats(0, 1e6, width=32))
STEPS = st.sampled_from([0.5, 1.0, 1.0, 1.0, 5.0, 61.0])
SAMPLES = st.lists(st.tuples(STEPS, VALUES), min_size=1, max_size=400)
RUNNING = INDEX["running"]


def recorded(samples: list[tuple[float, float]], gaps: frozenset[int] = frozenset()) -> tuple[History, float]:
    history, now = History(), 0.0
    for index, (step, value) in enumerate(samples):
        if index in gaps:
            history.gap()
        now += step
        history.append(now, {ALL: row(running=value), "a": row(running=-value)})
    return history, now


@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.frozensets(st.integers(0, 400), max_size=5))
def test_the_highest_and_the_lowest_survive_in_every_tier(
    samples: list[tuple[float, float]], gaps: frozenset[int]
) -> None:
    history, _ = recorded(samples, gaps)
    known = [value for _, value in samples if value == value]
    for tier in COARSE:
        rows = history.read(ALL, tier, after=0.0)
        highs = [value for value in rows.high[RUNNING] if value == value]
        lows = [value for value in rows.low[RUNNING] if value == value]
        kept = min(len(rows.times), tier.capacity)
        assert kept == len(rows.times) or kept + 1 == len(rows.times)
        if len(rows.times) < tier.capacity:
            assert (max(highs, default=None), min(lows, default=None)) == (
                max(known, default=None), min(known, default=None),
            )  # fmt: skip
        for low, average, high in zip(
            rows.low[RUNNING], rows.values[RUNNING], rows.high[RUNNING], strict=True
        ):
            assert (low != low) == (average != average) == (high != high)
            assert low != low or (low <= average * (1 + 1e-6) and average <= high * (1 + 1e-6))


@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.frozensets(st.integers(0, 400), max_size=5))
def test_times_never_go_back_and_memory_never_grows(
    samples: list[tuple[float, float]], gaps: frozenset[int]
) -> None:
    size = recorded(samples[:1])[0].num_bytes
    history, now = recorded(samples, gaps)
    assert history.num_bytes == size
    for tier in (FINE, *COARSE):
        times = history.read(ALL, tier, after=0.0).times.tolist()
        assert times == sorted(times)
        assert times[-1] == now


@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.sampled_from((FINE, *COARSE)))
def test_pieces_make_the_whole(samples: list[tuple[float, float]], tier) -> None:  # type: ignore[no-untyped-def]
    history, now, pieces, since = History(), 0.0, [], None
    for step, value in samples:
        now += step
        history.append(now, {ALL: row(running=value)})
        found = history.read(ALL, tier, 0.0, since)
        pieces[found.first :] = found.times.tolist()
        since = found.closed
    whole = history.read(ALL, tier, 0.0)
    assert pieces[whole.first :] == whole.times.tolist()


TOTALS = st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 1000), st.booleans()), max_size=50)


@given(TOTALS)
def test_no_rate_is_ever_negative_and_none_is_lost(steps: list[tuple[float, int, bool]]) -> None:
    rows, now, total, started = RankRows(), 0.0, 0, 1.0
    rows.advance(now, reading(started=started, totals={"generation": 0.0}))
    made = counted = 0.0
    for seconds, increase, restarts in steps:
        now += seconds
        started += restarts
        total = increase if restarts else total + increase
        rate = rows.advance(now, reading(started=started, totals={"generation": float(total)})).values[
            INDEX["generation"]
        ]
        assert rate >= 0
        made += increase
        counted += rate * seconds
    assert math.isclose(made, counted, rel_tol=1e-6, abs_tol=1e-6)
