"""Skimming must be invisible: whatever the log and wherever it is cut, the state is the one that reading gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.follow.lines import LineSplitter
from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sidecar.memory import remember
from hisparse_metrics.sidecar.skim import READ, Decode, Verdicts
from hisparse_metrics.sidecar.state import SidecarState
from tests.property.sglang.lines import STAMP, docker, wrapped
from tests.unit.sidecar.support import (
    ACCESS,
    CRASH,
    LOG,
    NO_DEVICE,
    NO_HOST,
    READY,
    RETRACT,
    SYNC,
    decode,
    prefill,
    scrape,
)

SAMPLE = Path(__file__).parents[2] / "data/sglang_sample.jsonl"
SAMPLES = [json.loads(row)["line"] for row in SAMPLE.read_text().splitlines()]
OURS = (
    "[2026-04-08 14:09:56] Decode batch, #running-req: 1, #token: 5, token usage: 123.45, "
    "gen throughput (token/s): 2.0, #queue-req: 0"
)
USUAL = [
    decode(1), decode(22, "0.70", running=9), decode(3, ranks=""), decode(4, ranks=" DP1 TP0"), decode(5, waiting=7),
    decode(6).replace("True", "False"), decode(7).replace(", cuda graph", ", #warp-req: 9, cuda graph"),
    decode(8, clock="14:09:56.123"), decode(9, ranks=" DP12 TP0"), ACCESS, ACCESS, READY, RETRACT, prefill(),
]  # fmt: skip
ODD = [
    decode(8, "0.7"), decode(9, "7."), decode(1)[:-1], decode(1)[:-15], decode(10**17), decode(10**19),
    decode(11) + " and more", decode(12) + "\r", decode(14).replace(": 5,", ": ,"), decode(1) + ", ",
    decode(15).replace("14:09", "1409"), decode(16).replace("] ", "]"), decode(-5), f"{decode(2)} {decode(3)}",
    prefill(3, 4, ranks=" DP1 TP0"), CRASH, NO_HOST, NO_DEVICE, SYNC, "", "  warning", "Loading: 40%", " batch",
    NO_HOST.replace("12", "1" * 25), RETRACT.replace("3", ""), "[pod/a/b] x", '{"a": 12}', '[pod/a/b] {"log": 1}',
    " The server is fired up and ready to roll!", "[2 Scheduler hit an exception: 7", "[2 nothing", "\x1b[31mred",
    decode(7).replace(", cuda graph", ', "path\\7": 9, cuda graph'), decode(3).replace("#", "é"),
    # Our own engine's line, with a usage of as many digits as its grammar takes, and of one more.
    OURS, OURS.replace("123.45", "1123.45"),
]  # fmt: skip


def in_envelope(kind: str, line: str) -> str:
    match kind:
        case "cri":
            return f"{STAMP} stderr F {line}"
        case "cri stdout":
            return f"{STAMP} stdout F {line}"
        case "cri part":
            return f"{STAMP} stderr P {line}"
        case "docker":
            return docker(line + "\n")
        case "docker part":
            return docker(line)
        case "escaped":
            return docker(line + "\n").replace("batch", "\\u0062atch").replace("INFO", "\\u0049NFO")
        case "json":
            return json.dumps({"MESSAGE": line, "id": 12})
        case "compose":
            return f"svc-1  | {line}"
        case "ray":
            return f"(SGLangEngine pid=4182, ip=10.0.0.7) {line}"
    return line


KINDS = st.sampled_from(
    ("", "", "", "cri", "cri", "cri stdout", "cri part", "docker", "docker", "docker part", "escaped", "json",
     "compose", "ray")
)  # fmt: skip
BASES = st.sampled_from(USUAL) | st.sampled_from(USUAL) | st.sampled_from(ODD) | st.sampled_from(SAMPLES)
PHYSICAL = (
    st.builds(in_envelope, KINDS, BASES).map(lambda line: [line])
    | wrapped().map(lambda drawn: drawn[0])
    | st.builds(
        lambda line, at: [in_envelope("cri part", line[:at]), in_envelope("cri", line[at:])],
        st.sampled_from(USUAL),
        st.integers(0, 300),
    )
)


class Log(NamedTuple):
    """A log, where it is cut into reads, and after which reads the state is looked at."""

    data: bytes
    cuts: list[int]
    looks: list[bool]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """A few lines, again and again with other digits: so all kinds of skimming happen."""
    bases = draw(st.lists(PHYSICAL, min_size=1, max_size=5))
    random = Random(draw(st.integers(0, 2**32)))
    lines = [
        other_digits(line, random) if random.random() < 0.8 else line
        for base in (random.choice(bases) for _ in range(draw(st.integers(1, 40))))
        for line in base
        if random.random() < 0.9
    ]
    data = "\n".join([*lines, ""]).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return Log(data, [*cuts, len(data)], [random.random() < 0.5 for _ in cuts])


def other_digits(line: str, random: Random) -> str:
    """Return the line with some of its digits replaced by others."""
    share = random.choice((0.1, 0.9))
    return "".join(
        str(random.randrange(10)) if letter in "0123456789" and random.random() < share else letter
        for letter in line
    )


def batches(log: Log) -> Iterator[tuple[LineBatch, bool]]:
    splitter, begin = LineSplitter(4096), 0
    for end, look in zip(log.cuts, [*log.looks, True], strict=True):
        lines = splitter.feed(log.data[begin:end])
        begin = end
        yield LineBatch(LOG, "1", lines.lines, lines.cut), not look


def after(log: Log, state: SidecarState) -> SidecarState:
    for batch, continues in batches(log):
        state.take(batch, 1000.0, continues=continues)
    return state


def seen(state: SidecarState) -> tuple[object, ...]:
    """Return all that a scrape and a restart would see, in one order."""
    samples = scrape(state, 1000.0, 1e9).samples
    logs = json.loads(json.dumps(remember(state)))["logs"]
    for log in logs.values():
        log["ranks"].sort(key=lambda rank: rank["key"])
    return logs, sorted((s.name, *sorted(s.labels.items()), s.value) for s in samples)


@settings(max_examples=300, deadline=None)
@given(logs())
def test_the_state_is_that_of_reading_every_line(log: Log) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verdicts, "of", lambda self, lines: [READ] * len(lines))
        expected = seen(after(log, SidecarState()))

    assert seen(after(log, SidecarState())) == expected


@settings(max_examples=80, deadline=None)
@given(logs(), logs())
def test_what_other_logs_taught_changes_nothing(first: Log, log: Log) -> None:
    state = after(first, SidecarState())
    state.logs.clear()
    state._streams.clear()

    assert seen(after(log, state)) == seen(after(log, SidecarState()))


@settings(max_examples=80, deadline=None)
@given(logs())
def test_one_line_at_a_time_says_the_same(log: Log) -> None:
    """All but the capacities, which are narrowed once a look."""
    state = SidecarState()
    lines = [line for batch, _ in batches(log) for line in batch.lines]
    for line in lines:
        state.take(LineBatch(LOG, "1", [line]), 1000.0)

    def without_capacities(state: SidecarState) -> list[object]:
        return [s for s in seen(state)[1] if "capacity" not in s[0]]  # type: ignore[attr-defined]

    at_once = SidecarState()
    at_once.take(LineBatch(LOG, "1", lines), 1000.0)
    assert without_capacities(at_once) == without_capacities(state) or not lines


@settings(max_examples=200, deadline=None)
@given(PHYSICAL, st.integers(0, 2**32))
def test_the_grammar_never_looks_at_which_digit(physical: list[str], seed: int) -> None:
    """What skimming rests on: lines with other digits come to the same, wherever a verdict is remembered."""
    verdicts = Verdicts()
    for line in physical:
        parser, other_parser = LogParser(), LogParser()
        items = parser.feed(line)
        if parser.has_pending or parser.malformed:
            continue
        verdicts.learn(line.encode(), items)
        other = other_digits(line, Random(seed))
        [verdict] = verdicts.of([other.encode()])
        if verdict is READ:
            continue
        found = other_parser.feed(other)
        assert (other_parser.has_pending, other_parser.malformed) == (False, 0)
        if not isinstance(verdict, Decode):
            assert not found
        else:
            (record,) = found
            (inside,) = LogParser().feed(other.encode()[verdict.inside])
            assert isinstance(record, Record)
            assert record == inside
            assert record.unknown_fields == verdict.unknown_fields
