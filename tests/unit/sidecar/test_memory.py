from __future__ import annotations

import json
from typing import Any

import pytest

from hisparse_metrics.sidecar import memory
from hisparse_metrics.sidecar.memory import recall, remember
from hisparse_metrics.sidecar.state import SidecarState
from tests.unit.sidecar.support import CRASH, LOG, NO_HOST, RETRACT, batch, decode, fed, prefill, scrape

LOG_WITH_BAD_PENDING = remember(SidecarState()) | {
    "lines": {}, "unknown_fields": 0, "refused_records": 0, "last_line": 1, "last_sample": 1, "crashed": False,
    "ranks": [], "pending": {"stream": "1", "parts": [["only one"]]},
}  # fmt: skip


def restarted(state: SidecarState) -> SidecarState:
    """Return what the next process knows."""
    fresh = SidecarState()
    assert recall(fresh, json.loads(json.dumps(remember(state))))
    return fresh


def test_counters_and_capacities_survive_and_levels_do_not() -> None:
    before = fed(decode(90_000, "0.90"), prefill(), RETRACT, NO_HOST, "nothing")
    after = restarted(before)
    seen_before, seen_after = scrape(before), scrape(after)
    counters = {name for name in seen_before.names() if name.endswith("_total")}
    for name in counters:
        assert seen_after.values(name) == seen_before.values(name), name
    assert "hisparse_host_tokens" not in seen_after.names()
    after.take(batch(decode(1000, "0.01")), 1001.0)
    assert scrape(after, 1001.0).values("hisparse_host_token_capacity") == [pytest.approx(100_000, rel=0.01)]


def test_counting_goes_on_where_it_was() -> None:
    after = restarted(fed(prefill(100)))
    after.take(batch(prefill(11)), 1001.0)
    assert scrape(after).values("hisparse_prompt_tokens_total") == [111]


def test_a_crash_is_remembered() -> None:
    assert scrape(restarted(fed(decode(), CRASH))).values("hisparse_engine_up") == [0]


def cri(flag: str, text: str, stream: str = "stderr") -> str:
    return f"2026-08-23T09:10:52.123456789Z {stream} {flag} {text}"


PARTS = [
    cri("P", decode(7)[:40]), cri("P", prefill(5)[:9], "stdout"), cri("P", decode(7)[40:90]),
    cri("F", prefill(5)[9:], "stdout"), cri("F", decode(7)[90:]), cri("F", decode(8)), cri("P", decode(9)),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(PARTS) + 1))
def test_a_line_cut_by_its_collector_goes_over_a_restart(at: int) -> None:
    """Whenever that is, it is neither lost nor repeated, and the counts are those of one life."""
    state = restarted(fed(*PARTS[:at])) if at else SidecarState()
    if PARTS[at:]:
        state.take(batch(*PARTS[at:]), 1000.0)
    expected = fed(*PARTS)
    assert remember(state) == remember(expected)
    for one in (state, expected):
        one.end(LOG, 1002.0)
    assert remember(state) == remember(expected)


def test_a_beginning_is_not_joined_to_another_streams_end() -> None:
    after = restarted(fed(cri("P", decode(7)[:40])))
    after.take(batch(cri("F", decode(7)[40:]), stream="another"), 1001.0)
    assert "hisparse_host_tokens" not in scrape(after, 1001.0).names()


def test_what_is_kept_of_unfinished_lines_is_bounded() -> None:
    parts = [cri("P", "x" * (memory.MAX_PENDING // 2 - 9)) for _ in range(2)]
    before = fed(parts[0], cri("P", "y" * 50, "stdout"))
    before.take(batch(parts[1], source="/other"), 1000.0)
    before.take(batch(parts[1], source="/third"), 1000.0)
    assert len(json.dumps(remember(before))) < memory.MAX_PENDING + 5000
    after = restarted(before)
    after.take(batch(cri("F", decode(7)), source="/third"), 1001.0)
    after.take(batch(cri("F", "z")), 1001.0)
    assert after.logs["/third"].lines["malformed"] == 1, "its beginning is missing"
    assert after.logs[LOG].lines["malformed"] == 0


@pytest.mark.parametrize(
    "data",
    [
        {"version": 2},
        {"version": 1},
        {"version": 1, "logs": []},
        {"version": 1, "logs": {"a": {}}},
        {"x": 1},
        {"version": 1, "logs": {"a": LOG_WITH_BAD_PENDING}},
    ],
)
def test_what_makes_no_sense_is_left_out_as_a_whole(
    data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fresh = SidecarState()
    assert not recall(fresh, data)
    assert fresh.logs == {}
    assert "start from zero" in caplog.text
