from __future__ import annotations

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.sidecar.liveness import EngineState, Liveness
from tests.unit.sidecar.support import ACCESS, CRASH, LOG, READY, batch, decode, fed, prefill, scrape

NOW = 1000.0


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Liveness(NOW, NOW), "working"),
        (Liveness(NOW, NOW - 60), "working"),
        (Liveness(NOW, NOW - 61), "idle"),
        (Liveness(NOW, None), "idle"),
        (Liveness(NOW, NOW - 61, has_queue=True), "stalled"),
        (Liveness(NOW - 61, NOW - 61), "silent"),
        (Liveness(), "silent"),
        (Liveness(NOW, NOW, crashed=True), "dead"),
        (Liveness(NOW - 99, NOW - 99, ended=True), "dead"),
    ],
)
def test_verdict(facts: Liveness, state: str) -> None:
    assert facts.state(NOW, 60) == state


def test_the_closed_label_has_exactly_the_states() -> None:
    assert catalogue.ENGINE_STATE.values == tuple(state.value for state in EngineState)


def test_levels_vanish_and_the_last_sample_stays() -> None:
    state = fed(decode(host_usage="0.97"), prefill())
    fresh, stale = scrape(state, 1060.0), scrape(state, 1060.1)
    assert fresh.values("hisparse_host_token_usage") == [0.97]
    levels = {metric.name for metric in catalogue.ALL if metric.is_level}
    assert levels & fresh.names()
    assert not levels & stale.names()
    assert stale.values("hisparse_source_last_sample_timestamp_seconds") == [1000.0]
    assert stale.values("hisparse_prompt_tokens_total") == [100]


def test_prefill_lines_do_not_keep_an_old_split_alive() -> None:
    state = fed(decode())
    state.take(batch(prefill(waiting=3)), 1050.0)
    seen = scrape(state, 1070.0)
    assert "hisparse_host_tokens" not in seen.names()
    assert seen.values("hisparse_waiting_requests") == [3]


def test_one_silent_rank_does_not_take_the_others_along() -> None:
    state = fed(decode(1, ranks=" TP0"), decode(2, ranks=" TP1"))
    state.take(batch(decode(1, ranks=" TP0")), 1050.0)
    assert scrape(state, 1070.0).values("hisparse_host_tokens") == [1]


def test_idle_is_up_dead_is_down_and_silent_claims_nothing() -> None:
    state = fed(decode())
    assert scrape(state, 1000.0).values("hisparse_engine_up") == [1]
    assert scrape(state, 1061.0).values("hisparse_engine_up") == []
    assert scrape(state, 1061.0).values("hisparse_source_state", state="silent") == [1]
    state.take(batch(ACCESS), 1100.0)
    assert scrape(state, 1100.0).values("hisparse_engine_up") == [1]
    assert scrape(state, 1100.0).values("hisparse_source_state", state="idle") == [1]
    state.take(batch(CRASH), 1101.0)
    assert scrape(state, 1101.0).values("hisparse_engine_up") == [0]
    assert scrape(state, 1101.0).values("hisparse_source_state", state="dead") == [1]
    state.take(batch(READY), 1102.0)
    assert scrape(state, 1102.0).values("hisparse_source_state", state="idle") == [1]


def test_lines_without_work_while_requests_wait_are_a_stall() -> None:
    state = fed(decode(waiting=4))
    state.take(batch(ACCESS), 1100.0)
    assert scrape(state, 1100.0).values("hisparse_source_state", state="stalled") == [1]


def test_the_end_of_the_log_is_the_end_of_the_engine() -> None:
    state = fed(decode())
    state.end(LOG, 1001.0)
    assert scrape(state, 1001.0).values("hisparse_engine_up") == [0]


def test_a_record_of_unknown_age_is_no_level() -> None:
    """Backlog: counted, but nobody knows how old it is."""
    state = fed(decode(), prefill(), time=0.0)
    seen = scrape(state)
    assert seen.values("hisparse_prompt_tokens_total") == [100]
    assert not {metric.name for metric in catalogue.ALL if metric.is_level} & seen.names()
    assert "hisparse_source_last_sample_timestamp_seconds" not in seen.names()
