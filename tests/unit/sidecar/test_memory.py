from __future__ import annotations

import json
from typing import Any

import pytest

from hisparse_metrics.sidecar.memory import recall, remember
from hisparse_metrics.sidecar.state import SidecarState
from tests.unit.sidecar.support import CRASH, NO_HOST, RETRACT, batch, decode, fed, prefill, scrape


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


@pytest.mark.parametrize(
    "data",
    [{"version": 2}, {"version": 1}, {"version": 1, "logs": []}, {"version": 1, "logs": {"a": {}}}, {"x": 1}],
)
def test_what_makes_no_sense_is_left_out_as_a_whole(
    data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fresh = SidecarState()
    assert not recall(fresh, data)
    assert fresh.logs == {}
    assert "start from zero" in caplog.text
