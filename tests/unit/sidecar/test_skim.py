"""What is skimmed and what is not; that skimming is invisible is in ``tests/property/sidecar/test_skim.py``."""

from __future__ import annotations

import json

import pytest

from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.sglang import LogParser
from hisparse_metrics.sglang.events import MESSAGES
from hisparse_metrics.sglang.fields import DECODE, PREFILL
from hisparse_metrics.sidecar import skim
from hisparse_metrics.sidecar.skim import READ, Decode, Verdict, Verdicts
from hisparse_metrics.sidecar.state import SidecarState
from tests.unit.sidecar.support import ACCESS, LOG, NO_HOST, decode, prefill, scrape

STAMP = "2026-08-23T09:10:52.123456789Z"


def docker(line: str, end: str = "\n") -> str:
    return json.dumps({"log": line + end, "stream": "stderr", "time": STAMP}, separators=(",", ":"))


def verdict_after(learnt: str, line: str) -> Verdict:
    """Return the verdict on ``line`` of one who has read ``learnt``."""
    verdicts = Verdicts()
    verdicts.learn(learnt.encode(), LogParser().feed(learnt))
    return verdicts.of([line.encode()])[0]


def fed_in_two(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[SidecarState, list[bytes]]:
    """Return the state after the same lines twice, and those that were read the second time."""
    data = [line.encode() for line in lines]
    state = SidecarState()
    state.take(LineBatch(LOG, "1", data), 1000.0)
    parser = state._streams[LOG].parser
    reads: list[bytes] = []
    feed = parser.feed
    monkeypatch.setattr(parser, "feed", lambda line: (reads.append(line), feed(line))[1])
    state.take(LineBatch(LOG, "1", data), 1001.0)
    return state, reads


@pytest.mark.parametrize("envelope", [str, lambda line: f"{STAMP} stderr F {line}", docker])
def test_most_lines_of_a_backlog_are_not_read(envelope: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(envelope)
    ranked = [decode(1000 + n, f"0.{n % 90 + 10}", ranks=f" DP{n % 4} TP0") for n in range(400)]
    lines = [envelope(line) for line in [*ranked, *[ACCESS] * 100]]
    state, reads = fed_in_two(lines, monkeypatch)

    assert len(reads) == 4
    assert scrape(state).values("hisparse_host_tokens", dp_rank="3") == [1399]
    assert scrape(state).values("hisparse_source_lines_total", outcome="parsed") == [800]
    assert scrape(state).values("hisparse_source_lines_total", outcome="ignored") == [200]


def test_lines_that_count_are_always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [prefill(), NO_HOST, decode(1) + " " + decode(2)]
    _, reads = fed_in_two(lines, monkeypatch)

    assert reads == [line.encode() for line in lines]


@pytest.mark.parametrize("line", [
    decode(8, "0.7"), decode(8, "0.290"), decode(1) + "0", decode(1)[:-1], decode(1)[:-15], decode(-5), decode(1) + "\r",
    decode(1).replace("14:09", "1409"), decode(1).replace("] ", "]"), decode(123456), "Q" + decode(1), "",
])  # fmt: skip
def test_a_line_of_another_form_is_never_like_a_decode_line(line: str) -> None:
    assert isinstance(verdict_after(decode(41422), decode(99999, "0.99")), Decode)
    assert verdict_after(decode(41422), line) is READ


@pytest.mark.parametrize("line", [
    "(A pid=4182) " + decode(1), "svc-1  | " + decode(1), f"[pod/a-1/b] {decode(1)}", f"{STAMP} {decode(1)}",
    docker(decode(1)).replace(":56", "\\u003a56"), json.dumps({"MESSAGE": decode(1)}), prefill(), NO_HOST,
    docker(decode(1).replace(", cuda", r', "x\7": 1, cuda')), docker(ACCESS).replace("INFO", "\\u0049NFO"),
    '{"a": 12}', 'svc-1  | {"a": 12}', '\x1b[1m{"log": "12"}', ACCESS + " x" * 2000,
])  # fmt: skip
def test_where_a_digit_may_matter_there_is_no_verdict(line: str) -> None:
    assert verdict_after(line, line) is READ


def test_a_part_of_a_line_is_joined_whatever_is_known_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(77777)
    rest = f"{STAMP} stderr F {whole[30:]}"
    state, _ = fed_in_two([rest, f"{STAMP} stderr F {ACCESS}"], monkeypatch)
    part = f"{STAMP} stderr P {whole[:30]}"
    state.take(LineBatch(LOG, "1", [line.encode() for line in (part, rest, rest)]), 1002.0)

    assert scrape(state).values("hisparse_host_tokens") == [77777]
    assert scrape(state).values("hisparse_source_lines_total", outcome="parsed") == [1]


def test_ever_new_lines_are_known_in_bounded_number() -> None:
    state = SidecarState()
    lines = [f"  word {'x' * (n % 50)}{chr(97 + n % 26)}{n // 50 * 'y'}".encode() for n in range(50_000)]
    state.take(LineBatch(LOG, "1", lines), 1000.0)

    assert state._verdicts.num_bytes <= skim.MAX_KNOWN_BYTES
    assert sum(map(len, state._verdicts._known)) <= skim.MAX_KNOWN_BYTES
    assert scrape(state).values("hisparse_source_lines_total", outcome="ignored") == [50_000]


def test_no_name_of_the_grammar_has_a_digit() -> None:
    names = [*DECODE, *PREFILL, *(message.needle for message in MESSAGES)]

    assert not any(letter.isdigit() for name in names for letter in name)
