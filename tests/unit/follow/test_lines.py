from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_metrics.follow.lines import LineSplitter


def test_a_partial_line_waits_for_its_newline() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntwo").lines == [b"one"]
    assert splitter.feed(b" and").lines == []
    assert splitter.feed(b" more\n").lines == [b"two and more"]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"\n")), max_size=20))
def test_splits_anywhere_make_no_difference(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece).lines]
    assert lines + [splitter.finish().lines or [b""]][0] == b"".join(pieces).split(b"\n")


def test_a_dropped_partial_is_counted_and_a_finished_one_is_a_line() -> None:
    splitter = LineSplitter()
    splitter.feed(b"half")
    splitter.drop()
    splitter.drop()
    assert splitter.counts.dropped_partials == 1
    splitter.feed(b"last")
    assert splitter.finish().lines == [b"last"]
    assert splitter.finish().lines == []


@pytest.mark.parametrize("chunk", [1 << 16, 10_000_001])
def test_a_line_of_10_mb_keeps_its_beginning_and_the_next_line_is_whole(chunk: int) -> None:
    splitter = LineSplitter(1 << 20)
    data = b"head" + b"x" * 9_999_996 + b"\nnext\n"
    began = time.process_time()
    found = [splitter.feed(data[i : i + chunk]) for i in range(0, len(data), chunk)]
    assert time.process_time() - began < 1
    lines = [line for one in found for line in one.lines]
    assert [len(line) for line in lines] == [1 << 20, 4]
    assert lines[0].startswith(b"head")
    assert [one.cut for one in found if one.cut] == [(0,)]
    assert splitter.counts.skipped_bytes == 10_000_000 - (1 << 20)
    assert splitter.counts.cut_lines == 1


def test_a_10_mb_line_in_single_bytes_costs_linear_time() -> None:
    splitter = LineSplitter(1 << 16)
    began = time.process_time()
    for _ in range(300_000):
        splitter.feed(b"x")
    assert time.process_time() - began < 5
    assert splitter.feed(b"\n").cut == (0,)


def test_a_line_of_exactly_the_limit_is_not_cut() -> None:
    splitter = LineSplitter(4)
    assert splitter.feed(b"abcd\nabcde\nab\n") == ([b"abcd", b"abcd", b"ab"], (1,))


def test_nul_holes_are_skipped_and_what_they_cut_off_is_dropped() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"\0\0\0one\ncut\0\0\0two\nthree\0\n\0\n").lines == [b"one", b"two", b"three", b""]
    assert splitter.counts.dropped_partials == 1
    assert splitter.counts.nul_bytes == 8


def test_a_hole_of_many_reads_takes_no_room_in_a_line() -> None:
    splitter = LineSplitter(max_line_bytes=100)
    for _ in range(50):
        splitter.feed(bytes(1000))
    splitter.feed(b"cut")
    for _ in range(50):
        splitter.feed(bytes(1000))
    assert splitter.feed(b"whole\n") == ([b"whole"], ())
    assert splitter.counts.nul_bytes == 100_000


def test_invalid_utf8_and_carriage_returns_pass() -> None:
    assert LineSplitter().feed(b"\xff\xfe\x80\r\n").lines == [b"\xff\xfe\x80\r"]


def test_skip_line_leaves_out_the_rest_of_a_line() -> None:
    splitter = LineSplitter()
    splitter.skip_line()
    splitter.feed(b"rest of")
    assert splitter.feed(b" a line\nwhole\n").lines == [b"whole"]


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_line_bytes is 0"):
        LineSplitter(0)
