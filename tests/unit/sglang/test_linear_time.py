"""Work grows with the length of a hostile line, not with its square: calls are counted, so that no clock decides."""

from __future__ import annotations

import cProfile
import json
import pstats
import re
import time
import tracemalloc

import pytest

from hisparse_metrics.sglang import LogParser, Record

STAMP = "2026-08-23T09:10:52.123456789Z"
RECORD = (
    "[2026-04-08 14:09:56 TP0] Decode batch, #running-req: 5, #token: 20800, token usage: 0.29, "
    "cuda graph: True, gen throughput (token/s): 153.75, #queue-req: 0"
)
HOSTILE = {
    "one letter": "x",
    "markers": "Decode batch, ",
    "prefixes": "[2026-04-08 14:09:56 TP0] Decode batch, ",
    "records": RECORD + " ",
    "fields": "#running-req: 5, ",
    "commas": ", ",
    "brackets": "[",
    "open brackets in fields": "Decode batch, a: [, ",
    "ray": "(a pid=1",
    "returns": "\r",
    "returns and markers": "\rDecode batch, ",
    "escapes": "\x1b[0",
    "colours": "\x1b[0m",
    "titles": "\x1b]",
    "holes": "\0",
    "envelopes": f"{STAMP} stderr F ",
    "compose": "a | ",
    "json": '{"log":',
    "capacities": "] max_total_num_tokens=1, context_len=",
    "allocations": "HiSparse: host mem pool alloc failed for ",
    "dates": "2026-04-08 14:09:56 ",
    "digits": "1",
    "after a marker": "Decode batch, #running-req: " + "1" * 10_000,
}


def seconds(line: str) -> float:
    begin = time.process_time()
    parser = LogParser()
    parser.feed(line)
    parser.finish()
    return time.process_time() - begin


def calls(line: str) -> int:
    """Count the calls that parsing makes, those into C included."""
    parser = LogParser()
    re.purge()
    profile = cProfile.Profile()
    profile.runcall(parser.feed, line)
    return int(pstats.Stats(profile).total_calls)


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_twice_the_line_is_at_most_twice_the_calls(piece: str) -> None:
    times = 64_000 // len(piece)

    assert calls(piece * (4 * times)) <= 4 * calls(piece * times) + 2000


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_eight_times_the_line_takes_far_less_than_the_square(piece: str) -> None:
    """Catches what is quadratic within one call into C: 64 times the work, where eight times is due."""
    times = 64_000 // len(piece)
    small = min(seconds(piece * times) for _ in range(3))

    assert min(seconds(piece * (8 * times)) for _ in range(3)) <= 24 * small + 0.05


@pytest.mark.parametrize("before", ["Loading: 40%\r", "x"])
def test_record_behind_ten_megabytes_is_found_in_bounded_memory(before: str) -> None:
    line = before * (10_000_000 // len(before)) + RECORD
    parser = LogParser()
    tracemalloc.start()
    (found,) = parser.feed(line)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(found, Record)
    assert found.values["tokens"] == 20800
    assert peak < 1_000_000


def test_nothing_of_a_long_line_is_kept() -> None:
    parser = LogParser()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(40):
        parser.feed(f"{STAMP} stderr P {'x' * 1_000_000}")
        parser.feed(json.dumps({"log": "y" * 1_000_000, "stream": "stdout", "time": STAMP}))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 100_000
