from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from hisparse_metrics.live.answer import MAX_RANKS_IN_TABLE
from hisparse_metrics.live.columns import COLUMNS
from hisparse_metrics.live.history import ALL, MAX_RANKS
from hisparse_metrics.live.query import WINDOWS
from hisparse_metrics.live.reading import Kind
from hisparse_metrics.live.vocabulary import stalled_seconds
from tests.unit.live.support import Machine, reading

LEVELS = {"host_tokens": 12345.0, "host_usage": 0.25, "running": 1.0}


def test_an_endpoint_without_engines_says_so() -> None:
    answer = Machine().answer()
    assert (answer["ranks"]["rows"], answer["rows"]["time"], answer["complete"]) == ([], [], True)


def test_values_are_exact_in_the_table_and_close_in_the_rows() -> None:
    machine = Machine()
    machine.turn(reading(levels={"host_tokens": 123456789.0, "host_usage": 1 / 3}))
    [rank] = machine.table()
    assert (rank["host_tokens"], rank["host_usage"]) == (123456789, 1 / 3)
    answer = machine.answer()
    assert answer["total"]["host_tokens"] == 123456789
    [value] = answer["rows"]["columns"]["host_tokens"]["value"]
    assert value == pytest.approx(123456789, rel=1e-5)


def test_null_is_not_zero() -> None:
    machine = Machine()
    machine.turn(reading(levels={"waiting": 0.0}))
    columns = machine.answer()["rows"]["columns"]
    assert (columns["waiting"]["value"], columns["running"]["value"]) == ([0], [None])


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e308])
def test_every_answer_is_json_whatever_a_page_holds(value: float) -> None:
    machine = Machine()
    machine.turn(reading(levels={"host_tokens": value}))

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    for window in WINDOWS:
        json.loads(machine.ask(f"window={window}").body, parse_constant=refuse)


def test_answers_go_on_where_the_last_one_ended() -> None:
    machine = Machine()
    for _ in range(5):
        machine.turn(reading(levels=LEVELS))
    first = machine.answer()
    machine.turn(reading(levels=LEVELS))
    second = machine.answer(f"since={first['cursor']}")
    assert (first["first"], len(first["rows"]["time"])) == (0, 5)
    assert (second["complete"], second["first"], len(second["rows"]["time"])) == (False, 5, 1)


@pytest.mark.parametrize("window", WINDOWS)
def test_many_small_answers_make_the_same_as_one_large_one(window: str) -> None:
    machine, times, cursor = Machine(), [], ""
    for second in range(200):
        machine.turn(reading(levels={"host_tokens": float(second)}))
        answer = machine.answer(f"window={window}{cursor}")
        times[answer["first"] :] = answer["rows"]["time"]
        cursor = f"&since={answer['cursor']}"
    assert times == machine.answer(f"window={window}")["rows"]["time"]


def test_a_cursor_of_something_else_gets_everything() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    cursor = machine.answer()["cursor"]
    other = Machine()
    other.turn(reading(levels=LEVELS))
    assert other.answer(f"since={cursor}")["complete"], "another process"
    assert machine.answer(f"window=1h&since={cursor}")["complete"], "another window"
    assert machine.answer(f"rank={reading().id}&since={cursor}")["complete"], "another rank"
    assert not machine.answer(f"since={cursor}")["complete"]


def test_events_come_once() -> None:
    machine = Machine()
    machine.turn(reading())
    machine.turn(reading(up=False))
    first = machine.answer()
    assert [event["kind"] for event in first["events"]] == ["down"]
    machine.turn(reading(started=2.0))
    second = machine.answer(f"since={first['cursor']}")
    assert [(e["kind"], e["rank"]) for e in second["events"]] == [("restart", reading().id)]


def test_wrong_queries_are_400_with_a_sentence_and_a_rank_that_is_gone_is_404() -> None:
    machine = Machine()
    wrong = machine.ask("window=2h")
    assert (wrong.status, wrong.content_type) == (400, "text/plain; charset=utf-8")
    assert wrong.body.startswith(b"window='2h' is not kept: choose one of")
    gone = machine.ask("rank=0123456789ab")
    assert (gone.status, gone.body[:28]) == (404, b"rank 0123456789ab is not her")


def test_gzip_on_request_and_never_stored() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    plain, packed = machine.ask(), machine.ask(encoding="gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Cache-Control"] == packed.headers["Cache-Control"] == "no-store"


def test_whoever_asks_the_same_between_two_samples_shares_one_answer() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    assert machine.ask().body is machine.ask().body
    before = machine.ask().body
    machine.turn(reading(levels=LEVELS))
    assert machine.ask().body != before


def test_a_dead_rank_shows_its_last_values_and_their_age() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    machine.turn(reading(up=False, levels=LEVELS), seconds=3.0)
    [rank] = machine.table()
    assert (rank["state"], rank["host_tokens"], rank["values_age"]) == ("down", 12345, 3.0)
    assert machine.answer()["total"]["host_tokens"] is None, "a dead engine holds no tokens"


def test_a_rank_found_dead_shows_what_its_page_says() -> None:
    machine = Machine()
    machine.turn(reading(up=False, levels=LEVELS, last_step=machine.now + machine.wall_offset - 99))
    [rank] = machine.table()
    assert (rank["host_tokens"], rank["values_age"]) == (12345, 100.0)


def test_states_and_the_worst_first() -> None:
    machine = Machine()
    now = machine.now + machine.wall_offset + 1
    stuck = now - stalled_seconds() - 1
    machine.turn(
        reading(0, levels={}, last_step=now),
        reading(1, levels=LEVELS, last_step=now),
        reading(2, levels=LEVELS | {"host_usage": 0.5}, last_step=now),
        reading(3, levels=LEVELS, last_step=stuck),
        reading(4, levels={"waiting": 1.0}, last_step=stuck),
        reading(5, up=False),
    )
    ranks = [(rank["labels"]["dp_rank"], rank["state"]) for rank in machine.table()]
    assert ranks == [("5", "down"), ("3", "stalled"), ("2", "up"), ("1", "up"), ("4", "up"), ("0", "idle")]
    assert machine.answer()["states"] == {"down": 1, "stalled": 1, "silent": 0, "up": 3, "idle": 1}


def test_the_largest_answer_is_bounded() -> None:
    machine = Machine()
    ranks = [reading(dp, levels=LEVELS | {"device_usage": dp / 7}) for dp in range(MAX_RANKS_IN_TABLE + 100)]
    machine.turn(*ranks)
    answer = machine.answer()
    assert (len(answer["ranks"]["rows"]), answer["left_out"]) == (MAX_RANKS_IN_TABLE, 100)
    assert sum(rank["recorded"] for rank in machine.table()) == MAX_RANKS


def test_the_largest_window_is_bounded() -> None:
    machine = Machine()
    for minute in range(2000):
        machine.sampler.history.append(60.0 * minute, {ALL: [0.123456789 + minute] * len(COLUMNS)})
    machine.now = 60.0 * 2000
    machine.turn(reading(levels=LEVELS))
    assert len(machine.answer("window=24h")["rows"]["time"]) == 1440
    assert len(machine.ask("window=24h").body) < 1_000_000


def test_what_no_source_can_have_is_named() -> None:
    machine = Machine()
    log = replace(reading(levels=LEVELS, histograms={}), kind=Kind.LOG)
    machine.turn(log)
    assert {"hit_ratio", "host_to_device", "step_p99"} <= set(machine.answer()["never"])
    assert not {"host_tokens", "generation", "prompt"} & set(machine.answer()["never"])
    machine.turn(log, reading(1, levels=LEVELS))
    assert machine.answer()["never"] == []
