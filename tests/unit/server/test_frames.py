"""Frames come out whole, in order, however the bytes arrive."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_engine.server.frames import FrameError, FrameReader, frame


@given(payloads=st.lists(st.binary(max_size=50), max_size=8), cuts=st.lists(st.integers(1, 40), max_size=60))
def test_any_cut_of_the_stream_gives_the_same_payloads(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    reader, got = FrameReader(), []
    for cut in [*cuts, len(stream) + 1]:
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert got == payloads


def test_a_length_that_no_message_has_is_refused() -> None:
    with pytest.raises(FrameError, match="announces"):
        list(FrameReader().feed(struct.pack("!I", 2**32 - 1)))


def test_what_was_not_taken_yet_is_kept() -> None:
    reader = FrameReader()
    assert next(reader.feed(frame(b"a") + frame(b"b"))) == b"a"
    assert list(reader.feed(b"")) == [b"b"]
