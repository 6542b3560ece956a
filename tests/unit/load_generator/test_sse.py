"""Events out of bytes, however these are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_generator.sse import EventParser

STREAM = (
    'data: {"a": 1}\n\n: a comment\n\nevent: x\ndata:no space\ndata:  two lines\n\nid: 7\n\ndata: größe\n\n'
)
EVENTS = ['{"a": 1}', "no space\n two lines", "größe"]


def events(*pieces: bytes) -> list[str]:
    parser = EventParser()
    return [data.decode() for piece in pieces for data in parser.feed(piece)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@given(cuts=st.lists(st.integers(0, 110), max_size=20))
def test_it_does_not_matter_where_the_bytes_are_cut(line_end: str, cuts: list[int]) -> None:
    stream = STREAM.replace("\n", line_end).encode()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert events(*(stream[a:b] for a, b in pairwise(places))) == EVENTS


def test_single_bytes_and_carriage_returns_alone() -> None:
    stream = STREAM.replace("\n", "\r").encode() + b":\r"
    assert events(*(stream[i : i + 1] for i in range(len(stream)))) == EVENTS


def test_an_event_without_its_end_is_none() -> None:
    assert events(b"data: one\n\ndata: tw") == ["one"]
    assert events(b"data: one\n") == []


def test_empty_data_is_an_event_and_no_data_is_none() -> None:
    assert events(b"data:\n\nretry: 5\n\n\n\n") == [""]
