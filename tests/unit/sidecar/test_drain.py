from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from hisparse_metrics.sidecar.drain import DrainedPipe

WAIT_S = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def lines_of(source: DrainedPipe) -> list[bytes]:
    """Return the lines of a pipe that has been closed."""
    assert source.closed.wait(WAIT_S)
    return [line for batch in source.poll(1) for line in batch.lines]


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for the thread, without a fixed time."""
    waiting = threading.Event()
    for _ in range(1000):
        if is_true():
            return
        waiting.wait(WAIT_S / 1000)
    pytest.fail("the thread did not come so far")


def test_lines_come_out_and_the_last_one_needs_no_newline(pipe: tuple[int, int]) -> None:
    source = DrainedPipe(fd=pipe[0])
    os.write(pipe[1], b"one\ntwo\nthr")
    os.write(pipe[1], b"ee")
    os.close(pipe[1])
    assert lines_of(source) == [b"one", b"two", b"three"]
    assert source.ended
    assert source.poll(1) == []
    assert not source.status().up


def test_the_output_gets_every_byte_unchanged(pipe: tuple[int, int]) -> None:
    out_reader, out_writer = os.pipe()
    data = bytes(range(256)) * 100 + b"\xff\r\n\0 no newline"
    source = DrainedPipe(fd=pipe[0], tee_fd=out_writer)
    os.write(pipe[1], data)
    os.close(pipe[1])
    assert source.closed.wait(WAIT_S)
    os.close(out_writer)
    with os.fdopen(out_reader, "rb") as out:
        assert out.read() == data


def test_a_closed_output_does_not_end_the_reading(pipe: tuple[int, int]) -> None:
    out_reader, out_writer = os.pipe()
    os.close(out_reader)
    source = DrainedPipe(fd=pipe[0], tee_fd=out_writer)
    os.write(pipe[1], b"one\n")
    os.write(pipe[1], b"two\n")
    os.close(pipe[1])
    assert lines_of(source) == [b"one", b"two"]
    os.close(out_writer)


def test_the_writer_never_waits_for_the_parser(pipe: tuple[int, int]) -> None:
    """Nobody polls, and a megabyte goes through a pipe of 64 KiB."""
    source = DrainedPipe(fd=pipe[0], limit=1000)
    line = b"x" * 99 + b"\n"

    def write() -> None:
        with os.fdopen(os.dup(pipe[1]), "wb") as out:
            out.write(line * 10_000)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(WAIT_S)
    assert not writer.is_alive()
    os.close(pipe[1])
    whole = lines_of(source)
    status = source.status()
    assert set(whole) <= {line[:-1]}
    assert status.bytes_read == 1_000_000
    assert status.counts.skipped_bytes > 0


def test_what_is_lost_never_joins_two_lines(pipe: tuple[int, int]) -> None:
    source = DrainedPipe(fd=pipe[0], limit=15)
    os.write(pipe[1], b"head")
    wait_until(lambda: source.status().bytes_read == 4)
    os.write(pipe[1], b"x" * 20)
    wait_until(lambda: source.status().bytes_read == 24)
    assert source.poll(1) == []
    os.write(pipe[1], b"tail\nwhole\n")
    os.close(pipe[1])
    assert lines_of(source) == [b"whole"]
    assert source.status().counts.skipped_bytes >= 20


def test_a_pipe_has_no_position(pipe: tuple[int, int]) -> None:
    source = DrainedPipe(fd=pipe[0])
    assert source.position() == {}
    source.resume({"offset": 7})
    assert source.status().up
    os.close(pipe[1])
    assert source.closed.wait(WAIT_S)
