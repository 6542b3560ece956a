"""Small parts: keys, what they change, figures, plain text and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hisparse_metrics import catalogue as m
from hisparse_metrics.top import numbers
from hisparse_metrics.top.command import can_be_live, take_snapshot
from hisparse_metrics.top.control import applied
from hisparse_metrics.top.keys import Key, KeyDecoder
from hisparse_metrics.top.look import Look
from hisparse_metrics.top.order import Order
from hisparse_metrics.top.plain import as_json, as_text
from hisparse_metrics.top.reading import Reading
from tests.unit.top.support import BUSY, DOWN, MANY, RATIOS_ONLY, STUCK, VOCABULARY, reading, sample, snapshot


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"q", [Key.QUIT]),
        (b"sp?", [Key.SORT, Key.PAUSE, Key.HELP]),
        (b"jk", [Key.DOWN, Key.UP]),
        (b"\x1b[A\x1b[B", [Key.UP, Key.DOWN]),
        (b"\x1bOA\x1bOB", [Key.UP, Key.DOWN]),
        (b"\x1b[5~\x1b[6~", [Key.PAGE_UP, Key.PAGE_DOWN]),
        (b"\x1b[H\x1b[F\x1b[1~\x1b[4~gG", [Key.FIRST, Key.LAST] * 3),
        (b"\x1b[1;5A", []),
        (b"\x1b[200~", []),
        (b"\x1b\x1b[A", [Key.BACK, Key.UP]),
        (b"\xff\x00xyz", []),
    ],
)
def test_keys(typed: bytes, expected: list[Key]) -> None:
    assert KeyDecoder().feed(typed) == expected


def test_a_sequence_in_pieces_is_one_key_and_a_lone_escape_too() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert decoder.feed(b"[") == []
    assert decoder.feed(b"A") == [Key.UP]
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == [Key.BACK]
    assert not decoder.is_waiting


def test_what_keys_change() -> None:
    look, ranks = Look(Order.NAME), MANY.ranks
    by_name = [rank.key for rank in ranks]
    down = applied(look, Key.DOWN, ranks, 10)
    assert down.cursor == by_name[1]
    assert applied(down, Key.UP, ranks, 10).cursor is None, "the first is whichever comes first"
    assert applied(down, Key.PAGE_DOWN, ranks, 10).cursor == by_name[11]
    assert applied(down, Key.LAST, ranks, 10).cursor == by_name[-1]
    assert applied(applied(down, Key.LAST, ranks, 10), Key.DOWN, ranks, 10).cursor == by_name[-1]
    assert applied(look, Key.DOWN, (), 10) == look
    assert applied(down, Key.SORT, ranks, 10) == Look(Order.FULL)
    assert applied(look, Key.PAUSE, ranks, 10).paused
    assert applied(applied(look, Key.HELP, ranks, 10), Key.BACK, ranks, 10) == look
    assert applied(look, Key.REDRAW, ranks, 10) == look


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.short(None), "-"), (numbers.short(950), "950"), (numbers.short(999.6), "1.00k"),
        (numbers.short(20_800), "20.8k"), (numbers.short(1_234_567), "1.23M"), (numbers.short(0), "0"),
        (numbers.full(1_234_567), "1,234,567"), (numbers.percent(0.8734, 1), "87.3%"), (numbers.percent(1), "100%"),
        (numbers.throughput(0), "0"), (numbers.throughput(12.34), "12.3"), (numbers.throughput(99.96), "100"),
        (numbers.bandwidth(0), "0 B/s"), (numbers.bandwidth(1.2 * 2**30), "1.20 GiB/s"),
        (numbers.bandwidth(1023.9), "1.00 KiB/s"), (numbers.duration(0.04), "0.0s"), (numbers.duration(12.3), "12s"),
        (numbers.duration(59.7), "1m00s"), (numbers.duration(200), "3m20s"), (numbers.duration(7_500), "2h05m"),
        (numbers.duration(400_000), "4d"), (numbers.ahead(0.0), "now"), (numbers.ahead(60), "1m00s"),
        (numbers.small(0.0182), "18.2ms"), (numbers.small(0.00095), "950us"), (numbers.small(1.2), "1.20s"),
    ],
)  # fmt: skip
def test_figures(text: str, expected: str) -> None:
    assert text == expected


def test_plain_text_says_it_in_the_logs_words() -> None:
    text = as_text(snapshot(BUSY, DOWN, STUCK))
    assert "all 3 ranks: 1 down, 1 stalled, 1 up" in text
    assert (
        "  #cpu-token: 1,720,320 of 2,097,152, cpu token usage: 0.82, reserved: 98,304, full in: 3m45s\n"
        in text
    )
    assert "\nglm dp1: down\n  last step: 5m12s ago, retractions: 7\n" in text
    assert text.index("glm dp0: up") < text.index("glm dp1: down")
    assert "\x1b" not in text


def test_plain_text_of_one_rank_and_of_none() -> None:
    assert "all" not in as_text(snapshot(RATIOS_ONLY))
    assert "no engine publishes" in as_text(snapshot(note="no engine publishes in /x yet"))


def test_json_has_every_figure_as_a_number_or_null() -> None:
    found = json.loads(as_json(snapshot(BUSY, DOWN), Order.STATE))
    down, busy = found["ranks"]
    assert (down["state"], down["host_tokens"], down["dp_rank"]) == ("down", None, "1")
    assert (busy["host_usage"], busy["seconds_to_full"]) == (BUSY.host_usage, BUSY.seconds_to_full)
    assert found["totals"]["states"] == {"down": 1, "up": 1}
    assert found["totals"]["host_tokens"] == BUSY.host_tokens


class TwoReadings:
    about = "two readings"

    def __init__(self) -> None:
        self.given = [reading(n, sample({m.GENERATION_TOKENS: 50 * n})) for n in range(2)]

    def read(self) -> Reading:
        return self.given.pop(0)


def test_a_single_snapshot_has_rates() -> None:
    slept: list[float] = []
    frame = take_snapshot(TwoReadings(), 1.0, VOCABULARY, slept.append)
    assert (frame.ranks[0].tokens_per_second, slept) == (50.0, [1.0])


def test_where_it_can_be_live() -> None:
    assert can_be_live(True, "xterm-256color")
    assert not can_be_live(False, "xterm-256color")
    assert not can_be_live(True, "dumb")
    assert not can_be_live(True, "")


def test_a_pool_that_is_full_is_full_now() -> None:
    assert replace(BUSY, host_usage=1.0, host_growth=None).seconds_to_full == 0.0
