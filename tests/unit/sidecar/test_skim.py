"""Skimming must be invisible: whatever the lines, the state is the one that reading each line gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.sidecar import skim
from hisparse_metrics.sidecar.memory import remember
from hisparse_metrics.sidecar.noise import NEEDLES, Noise
from hisparse_metrics.sidecar.skim import Skimmer
from hisparse_metrics.sidecar.state import SidecarState
from tests.unit.sidecar.support import ACCESS, CRASH, LOG, NO_HOST, READY, RETRACT, decode, prefill, scrape

SAMPLE = Path(__file__).parents[2] / "data/sglang_sample.jsonl"
LINES = [json.loads(row)["line"] for row in SAMPLE.read_text().splitlines()]
OWN = [
    decode(1), decode(22, "0.70", running=9), decode(3, ranks=""), decode(4, ranks=" DP1 TP0"), decode(5, waiting=7),
    decode(6).replace("True", "False"), decode(7).replace(", cuda graph", ", #warp-req: 9, cuda graph"),
    decode(8, "0.7"), decode(9, "7."), decode(1)[:-1], decode(1)[:-15], decode(10**17), decode(10**19),
    decode(11) + " and more", decode(12) + "\r", decode(13, clock="14:09:56.123"), decode(14).replace(": 5,", ": ,"),
    decode(15).replace("14:09", "1409"), decode(16).replace("] ", "]"), decode(-5),
    prefill(), prefill(3, 4, ranks=" DP1 TP0"), ACCESS, CRASH, READY, RETRACT, NO_HOST, "",
    NO_HOST.replace("12", "1" * 25), RETRACT.replace("3", ""), ACCESS.replace("200", "404"), " batch", "[pod/a/b] x",
    " The server", " The server is fired up and ready to roll!", "[2 Scheduler hit an exception: 7", "[2 nothing",
]  # fmt: skip


def after(lines: list[str], size: int) -> SidecarState:
    """Return the state after the lines, in batches of ``size``."""
    state = SidecarState()
    data = [line.encode() for line in lines]
    for start in range(0, len(data), size):
        state.take(LineBatch(LOG, "1", data[start : start + size]), 1000.0 + start)
    return state


def seen(state: SidecarState) -> tuple[object, ...]:
    """Return all that a scrape and a restart would see."""
    samples = scrape(state, 1000.0, 1e9).samples
    return remember(state), sorted((s.name, *sorted(s.labels.items()), s.value) for s in samples)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(OWN) | st.sampled_from(OWN[:6]) | st.sampled_from(LINES), max_size=40),
    st.integers(1, 20),
)
def test_the_state_is_that_of_reading_every_line(lines: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Skimmer, "hold", lambda self, line: False)
        expected = seen(after(lines, size))
    assert seen(after(lines, size)) == expected


def test_most_lines_of_a_backlog_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [decode(n, f"0.{n % 90 + 10}", ranks=f" DP{n % 4} TP0") for n in range(400)]
    state = SidecarState()
    reads: list[bytes] = []
    state.take(LineBatch(LOG, "1", [decode(1).encode(), lines[0].encode()]), 1000.0)
    feed = state._streams[LOG].parser.feed
    monkeypatch.setattr(state._streams[LOG].parser, "feed", lambda line: (reads.append(line), feed(line))[1])
    state.take(LineBatch(LOG, "1", [line.encode() for line in lines]), 1001.0)
    assert len(reads) == 4
    assert sorted(scrape(state).values("hisparse_host_tokens", dp_rank="3")) == [399]
    assert scrape(state).values("hisparse_source_lines_total", outcome="parsed") == [402]


@pytest.mark.parametrize("line", OWN[7:11] + OWN[12:20])
def test_a_line_of_another_form_is_never_held(line: str) -> None:
    skimmer = Skimmer()
    for known in (decode(1), decode(2, ranks="")):
        skimmer._forms.clear()
        skimmer.learn(known.encode(), after([known], 1)._streams[LOG].parser.feed(known))
        assert skimmer.hold(known.encode())
        assert not skimmer.hold(line.encode()) or line in (OWN[9], OWN[15])


def test_ever_new_forms_cost_a_bounded_number_of_patterns() -> None:
    state = SidecarState()
    lines = [decode(1).replace(", cuda", f", warp{chr(97 + n % 26)}{n}x: 9, cuda") for n in range(200)]
    state.take(LineBatch(LOG, "1", [line.encode() for line in lines]), 1000.0)
    assert len(state._streams[LOG].skimmer._forms) <= skim._MAX_FORMS
    assert scrape(state).values("hisparse_source_unknown_fields_total") == [200]


def test_noise_is_known_only_where_nothing_can_hide() -> None:
    assert not any(byte in b"0123456789" for needle in NEEDLES for byte in needle)
    noise = Noise()
    for line in (ACCESS, NO_HOST, decode(), "[pod/a/b] x", "2026-08-23T09:10:52.1Z stderr F x", "{}", ""):
        noise.learn(line.encode())
    assert noise.knows(ACCESS.replace("200", "404").encode())
    for line in (NO_HOST, decode(), "[pod/a/b] x", "2026-08-23T09:10:52.1Z stderr F x", "{}", ""):
        assert not noise.knows(line.encode())
