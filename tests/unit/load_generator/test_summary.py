"""Percentiles, rates and goodput of known records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_generator.records import Outcome, Record, Sample
from benchmarks.load_generator.settings import Objective
from benchmarks.load_generator.summary import is_good, percentile, summarise


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1), share=st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], share: float) -> None:
    assert percentile(values, share) == pytest.approx(float(np.percentile(values, share)), rel=1e-9, abs=1e-6)


def record(**fields: Any) -> Record:
    usual = {
        "number": 0, "chat": 0, "turn": 0, "scheduled": 1.0, "limit": 5, "sent": 1.25, "tokens_at": [2.0, 2.5, 3.5],
        "ended": 4.0, "outcome": Outcome.OK, "prompt_tokens": 100, "cached_tokens": 60, "output_tokens": 3,
    }  # fmt: skip
    return Record(**usual | fields)


def test_latencies_count_from_when_a_request_was_due() -> None:
    one = record()
    assert (one.ttft, one.gaps, one.mean_itl, one.duration) == (1.0, [0.5, 1.0], 0.75, 3.0)


def test_several_tokens_in_a_piece_are_several_tokens() -> None:
    assert record(output_tokens=7).mean_itl == 0.25
    assert record(tokens_at=[2.0], output_tokens=1).mean_itl is None


@pytest.mark.parametrize(
    ("fields", "objective", "good"),
    [
        ({}, Objective(ttft=1.0, itl=0.75), True),
        ({}, Objective(ttft=0.9, itl=0.75), False),
        ({}, Objective(ttft=1.0, itl=0.7), False),
        ({"tokens_at": [1.5], "output_tokens": 1}, Objective(ttft=0.5, itl=0.01), True),
        ({"outcome": Outcome.CUT}, Objective(ttft=9.0, itl=9.0), False),
        ({"tokens_at": []}, Objective(ttft=9.0, itl=9.0), False),
    ],
)
def test_a_good_answer_is_complete_and_in_time(
    fields: dict[str, Any], objective: Objective, good: bool
) -> None:
    assert is_good(record(**fields), objective) is good


def test_a_run() -> None:
    records = [
        record(),
        record(scheduled=0.0, tokens_at=[5.0, 6.0], ended=10.0, output_tokens=2, cached_tokens=None),
        record(
            outcome=Outcome.REFUSED, tokens_at=[], refused_at=[1.0, 2.0], retry_after=3.0, message="429: full"
        ),
    ]
    samples = [
        Sample(0.0, host_usage=0.2, retractions=4, computed_prompt_tokens=10),
        Sample(1.0, host_usage=0.9, retractions=6, computed_prompt_tokens=150),
        Sample(2.0, host_usage=0.0, retractions=6, computed_prompt_tokens=150),
    ]
    found = summarise(records, samples, Objective(ttft=2.0, itl=1.0))
    assert found["wall_s"] == 10
    assert found["outcomes"] == {"ok": 2, "refused": 1, "rejected": 0, "error": 0, "cut": 0}
    assert (found["refusals"], found["retry_after_s"]["p50"], found["messages"]) == (2, 3.0, {"429: full": 1})
    assert found["ttft_s"] == {
        "mean": 3.0,
        "p50": 3.0,
        "p90": pytest.approx(4.6),
        "p99": pytest.approx(4.96),
        "max": 5.0,
    }
    assert found["output_tokens_per_s"] == 0.5
    assert found["goodput"] == {"requests": 1, "requests_per_s": 0.1, "output_tokens_per_s": 0.3}
    assert found["prompt_tokens"] == {"asked": 200, "cached": 60, "computed": 140}
    assert found["server"] == {"retractions": 2, "computed_prompt_tokens": 140}
    assert found["peaks"] == {"host_usage": 0.9}


def test_a_run_without_anything() -> None:
    found = summarise([], [], Objective())
    assert found["ttft_s"] is None
    assert found["output_tokens_per_s"] == found["wall_s"] == 0
