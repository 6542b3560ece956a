"""Standard error on a full disk, a closed pipe, a stuck pipe: lines are lost, nothing else."""

from __future__ import annotations

import os

from hisparse_engine.server.stderr import LossyStderr


def test_what_can_be_written_is_written() -> None:
    read_end, write_end = os.pipe()
    stream = LossyStderr(write_end)
    print("größer", file=stream)
    assert os.read(read_end, 100) == "größer\n".encode()
    assert stream.lost == 0
    os.close(read_end)
    os.close(write_end)


def test_a_full_disk_costs_the_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = LossyStderr(full)
    print("a", file=stream, flush=True)
    assert stream.lost > 0
    os.close(full)


def test_a_closed_pipe_costs_the_line() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = LossyStderr(write_end)
    print("a", file=stream)
    assert stream.lost > 0
    os.close(write_end)


def test_a_pipe_that_nobody_reads_delays_nobody() -> None:
    read_end, write_end = os.pipe()
    stream = LossyStderr(write_end)
    for _ in range(100):
        stream.write("x" * 4000 + "\n")  # more than a pipe holds
    assert stream.lost > 0
    os.close(read_end)
    os.close(write_end)


def test_a_closed_descriptor_costs_the_line() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    assert LossyStderr(write_end).write("a") == 1
