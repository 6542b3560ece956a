"""From readings to what is drawn: states, totals, projections, and what becomes of ranks and sources."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hisparse_metrics import catalogue as m
from hisparse_metrics.top.names import short_names
from hisparse_metrics.top.order import Order, arranged
from hisparse_metrics.top.reading import Engine, RankKey, ReadError
from hisparse_metrics.top.state import State
from tests.unit.top.support import (
    BUSY,
    DOWN,
    KEY,
    START,
    STUCK,
    board,
    reading,
    sample,
    snapshot,
    snapshot_of,
)

LAST_STEP = m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS


def test_a_rank_under_load() -> None:
    taken = board()
    for second in range(12):
        levels = {
            m.DEVICE_TOKENS: 80, m.DEVICE_TOKEN_CAPACITY: 100, m.DEVICE_TOKEN_USAGE: 0.8, m.DEVICE_TOKENS_SPARE: 20,
            m.HOST_TOKENS: 200 + 10 * second,
            m.HOST_TOKEN_CAPACITY: 1_000, m.HOST_TOKEN_USAGE: 0.2 + 0.01 * second, m.HOST_TOKENS_RESERVED: 50,
            m.RUNNING_REQUESTS: 4, m.STAGING_REQUESTS: 1, m.WAITING_REQUESTS: 2, LAST_STEP: START + second,
        }  # fmt: skip
        counters = {
            m.GENERATION_TOKENS: 40 * second, m.SWAP_IN_LOOKUPS: 100 * second, m.SWAP_IN_HITS: 90 * second,
            m.HOST_TO_DEVICE_BYTES: 4096 * second, m.DEVICE_TO_HOST_BYTES: 512 * second, m.RETRACTIONS: 3,
        }  # fmt: skip
        taken.take(reading(second, sample(levels | counters)))
    [rank] = snapshot_of(taken, 11).ranks
    assert (rank.name, rank.state, rank.running, rank.staging, rank.waiting) == ("glm", State.UP, 4, 1, 2)
    assert (rank.device_usage, rank.host_usage, rank.retractions) == (0.8, pytest.approx(0.31), 3)
    assert rank.tokens_per_second == pytest.approx(40)
    assert rank.hit_ratio == pytest.approx(0.9)
    assert (rank.host_to_device, rank.device_to_host) == (pytest.approx(4096), pytest.approx(512))
    assert rank.seconds_to_full == pytest.approx((1 - 0.31) / 0.01)
    assert (rank.reserved_usage, rank.spare_usage) == (0.05, 0.2)
    assert len(rank.curve) == 12


@pytest.mark.parametrize(
    ("values", "log_state", "expected"),
    [
        ({m.RUNNING_REQUESTS: 1, LAST_STEP: START - 59}, "", State.UP),
        ({m.RUNNING_REQUESTS: 1, LAST_STEP: START - 60}, "", State.STALLED),
        ({m.RUNNING_REQUESTS: 0, m.STAGING_REQUESTS: 1, LAST_STEP: START - 600}, "", State.UP),
        ({m.WAITING_REQUESTS: 1, LAST_STEP: START - 600}, "", State.UP),
        ({m.RUNNING_REQUESTS: 0, LAST_STEP: START - 600}, "", State.IDLE),
        ({m.ENGINE_UP: 0, m.RUNNING_REQUESTS: 1}, "", State.DOWN),
        ({m.RUNNING_REQUESTS: 1}, "dead", State.DOWN),
        ({m.RUNNING_REQUESTS: 1}, "silent", State.SILENT),
        ({m.RUNNING_REQUESTS: 1}, "stalled", State.STALLED),
        ({m.RUNNING_REQUESTS: 1}, "working", State.UP),
    ],
)  # fmt: skip
def test_states(values: dict[object, float], log_state: str, expected: State) -> None:
    taken = board()
    taken.take(reading(0, sample(values, log_state=log_state)))  # type: ignore[arg-type]
    assert [rank.state for rank in snapshot_of(taken, 0).ranks] == [expected]


def test_an_engine_whose_clock_is_ahead_or_behind_is_not_stalled() -> None:
    taken = board()
    for second in range(3):
        values = {m.RUNNING_REQUESTS: 1.0, LAST_STEP: START - 3_600 + second}
        taken.take(reading(second, sample(values)))
    [rank] = snapshot_of(taken, 2).ranks
    assert (rank.state, rank.since_step) == (State.UP, 0.0)


def test_a_dead_engine_has_its_last_counters_and_no_throughput() -> None:
    taken = board()
    taken.take(reading(0, sample({m.GENERATION_TOKENS: 10, m.RETRACTIONS: 2})))
    taken.take(reading(1, sample({m.ENGINE_UP: 0, m.GENERATION_TOKENS: 10, m.RETRACTIONS: 2})))
    [rank] = snapshot_of(taken, 1).ranks
    assert (rank.state, rank.tokens_per_second, rank.retractions, rank.host_tokens) == (
        State.DOWN,
        None,
        2,
        None,
    )


def test_a_pool_of_no_capacity_has_no_usage() -> None:
    taken = board()
    taken.take(reading(0, sample({m.HOST_TOKEN_CAPACITY: 0, m.HOST_TOKEN_USAGE: 0})))
    assert snapshot_of(taken, 0).ranks[0].host_usage is None


def test_a_logged_throughput_is_taken_as_it_is() -> None:
    taken = board()
    key = KEY._replace(source="/var/log/sglang.log")
    taken.take(reading(0, sample({m.GENERATION_TOKENS_PER_SECOND: 71.3}, key=key, engine=Engine.SGLANG)))
    assert snapshot_of(taken, 0).ranks[0].tokens_per_second == 71.3


def test_a_source_that_fails_leaves_its_last_figures_marked() -> None:
    taken = board()
    taken.fail("cannot read it")
    assert snapshot_of(taken, 0).trouble == "cannot read it"
    assert snapshot_of(taken, 0).read_ago is None
    taken.take(reading(0, sample({m.HOST_TOKENS: 7})))
    taken.fail("cannot read it")
    frame = snapshot_of(taken, 9)
    assert (frame.ranks[0].state, frame.ranks[0].host_tokens, frame.read_ago) == (State.UNREAD, 7, 9.0)
    taken.take(reading(10, sample({m.HOST_TOKENS: 8})))
    assert (snapshot_of(taken, 10).trouble, snapshot_of(taken, 10).ranks[0].state) == ("", State.IDLE)


def test_a_rank_that_vanishes_is_forgotten_and_begins_anew() -> None:
    taken = board()
    taken.take(reading(0, sample({m.GENERATION_TOKENS: 1})))
    taken.take(reading(1))
    assert snapshot_of(taken, 1).ranks == ()
    taken.take(reading(2, sample({m.GENERATION_TOKENS: 100})))
    assert snapshot_of(taken, 2).ranks[0].tokens_per_second is None


def test_ranks_that_share_tokens_count_once() -> None:
    ranks = [replace(BUSY, key=KEY._replace(dp_rank=dp, tp_rank=tp)) for dp in "01" for tp in "0123"]
    totals = snapshot(*ranks).totals
    assert (totals.host_tokens, totals.running) == (2 * BUSY.host_tokens, 2 * BUSY.running)  # type: ignore[operator]
    assert totals.tokens_per_second == 2 * BUSY.tokens_per_second  # type: ignore[operator]
    assert totals.host_to_device == 8 * BUSY.host_to_device  # type: ignore[operator]
    assert totals.host_usage == pytest.approx(BUSY.host_usage)


def test_the_hit_ratio_of_all_weighs_lookups() -> None:
    other = replace(DOWN, state=State.UP, hit_ratio=0.5, lookups_per_second=BUSY.lookups_per_second)
    assert snapshot(BUSY, other).totals.hit_ratio == pytest.approx((BUSY.hit_ratio + 0.5) / 2)  # type: ignore[operator]


def test_totals_name_the_rank_that_is_full_first() -> None:
    sooner = replace(BUSY, key=KEY._replace(dp_rank="7"), name="glm dp7", host_growth=0.1)
    totals = snapshot(BUSY, sooner).totals
    assert (totals.first_full, totals.seconds_to_full) == ("glm dp7", sooner.seconds_to_full)


def test_who_runs_out_first_comes_first() -> None:
    full_and_flat = replace(BUSY, name="full", host_usage=0.99, host_growth=None)
    filling = replace(BUSY, name="filling", host_usage=0.5, host_growth=0.01)
    calm = replace(BUSY, name="calm", host_usage=0.6, host_growth=None)
    names = [rank.name for rank in arranged([DOWN, calm, full_and_flat, filling], Order.FULL)]
    assert names == ["filling", "full", "calm", DOWN.name]


def test_every_order() -> None:
    ranks = [BUSY, DOWN, STUCK]
    assert [r.name for r in arranged(ranks, Order.STATE)] == [DOWN.name, STUCK.name, BUSY.name]
    assert arranged(ranks, Order.THROUGHPUT)[0].name == BUSY.name
    assert arranged(ranks, Order.HIT_RATIO)[0].name == BUSY.name
    numbered = [replace(BUSY, key=KEY._replace(dp_rank=str(n)), name=str(n)) for n in (10, 9, 2)]
    assert [r.name for r in arranged(numbered, Order.NAME)] == ["2", "9", "10"]
    order, seen = Order.FULL, set()
    for _ in Order:
        seen.add(order)
        order = order.next
    assert (seen, order) == (set(Order), Order.FULL)


def test_nothing_that_a_source_says_is_obeyed_by_the_terminal() -> None:
    evil = "x\x1b]0;owned\x07\n\u202e"
    taken = board()
    key = KEY._replace(engine_name=evil, model_name=evil)
    taken.take(reading(0, sample(key=key, info={"version": evil}), note=evil))
    taken.fail(str(ReadError(evil)))
    frame = snapshot_of(taken, 0)
    said = [frame.ranks[0].name, frame.ranks[0].about, frame.note, frame.trouble]
    assert all(text.isprintable() and "owned" in text for text in said)


def test_names_say_what_differs() -> None:
    assert short_names([KEY]) == {KEY: "glm"}
    two = [KEY, KEY._replace(dp_rank="1", tp_rank="3")]
    assert [*short_names(two).values()] == ["glm dp0 tp0", "glm dp1 tp3"]
    logs = [RankKey("sglang", source="/var/log/a.log"), RankKey("sglang", source="/var/log/b.log")]
    assert [*short_names(logs).values()] == ["sglang a", "sglang b"]
