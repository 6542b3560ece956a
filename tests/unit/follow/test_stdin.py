from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hisparse_metrics.follow.stdin import PipeSource


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        os.close(fd)


def lines(source: PipeSource, max_bytes: int = 1 << 20) -> list[bytes]:
    return [line for batch in source.poll(max_bytes) for line in batch.lines]


def test_an_empty_pipe_is_not_waited_for_and_its_flags_stay(pipe: list[int]) -> None:
    source = PipeSource("stdin", pipe[0])
    assert lines(source) == []
    assert os.get_blocking(pipe[0])
    assert source.status().up


def test_lines_come_as_they_are_completed_and_the_last_at_the_end(pipe: list[int]) -> None:
    copied: list[bytes] = []
    source = PipeSource("stdin", pipe[0], tee=copied.append, clock=lambda: 7.0)
    os.write(pipe[1], b"a\nb")
    assert lines(source) == [b"a"]
    os.write(pipe[1], b"c\nlast")
    assert lines(source, max_bytes=2) == [b"bc"]
    os.close(pipe.pop())
    assert lines(source) == [b"last"]
    assert source.ended
    assert lines(source) == []
    assert b"".join(copied) == b"a\nbc\nlast"
    status = source.status()
    assert (status.up, status.reason, status.bytes_read, status.last_read) == (False, "ended", 9, 7.0)


def test_a_last_line_without_newline_can_be_dropped(pipe: list[int]) -> None:
    source = PipeSource("stdin", pipe[0], flush_at_end=False)
    os.write(pipe[1], b"last")
    os.close(pipe.pop())
    assert lines(source) == []
    assert source.status().counts.dropped_partials == 1


def test_a_file_as_standard_input_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\nb\n")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    source = PipeSource("stdin", fd)
    assert lines(source) == [b"a", b"b"]
    assert source.ended
    os.close(fd)


def test_a_closed_descriptor_is_an_end_with_a_reason() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    source = PipeSource("stdin", read)
    assert lines(source) == []
    assert source.status().reason == "Bad file descriptor"
