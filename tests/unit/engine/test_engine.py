"""The step from outside: what comes out, what observers are told, and what happens to requests that end early."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from hisparse_engine.errors import CapacityError, InvariantError
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Outcome, Request, RequestError, SamplingParams, Status
from hisparse_metrics.stats import StepStats
from tests.support.models import VOCABULARY, RecordingEngine, engine_config, random_prompt, tiny_model

TOP_K = 4
POOLS = {"device_buffer_size": TOP_K, "device_tokens": 15, "host_tokens": 100}


@pytest.fixture(scope="module")
def model() -> DsaModel:
    return tiny_model(hidden_size=32, num_hidden_layers=2, index_topk=TOP_K, max_position_embeddings=90)


class Clock:
    """Advances by one second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Watched:
    """An engine, and every ``StepStats`` that it published."""

    def __init__(self, model: DsaModel, pools: dict[str, int] | None = None, **fields: Any) -> None:
        self.seen: list[StepStats] = []
        self.engine = RecordingEngine(
            model,
            engine_config(hisparse=pools or POOLS, **fields),
            observers=[self.seen.append],
            clock=Clock(),
        )

    def add(self, prompt_length: int, new: int, **params: Any) -> Request:
        params = {"ignore_eos": True, **params}
        prompt = random_prompt(prompt_length, seed=prompt_length)
        return self.engine.add_request(prompt, SamplingParams(max_new_tokens=new, **params))

    def durations(self, name: str) -> list[tuple[float, int]]:
        return [(d.seconds, d.count) for stats in self.seen for d in stats.durations if d.field == name]


def test_requests_end_with_as_many_tokens_as_asked(model: DsaModel) -> None:
    watched = Watched(model)
    requests = [watched.add(20, 5), watched.add(3, 1), watched.add(9, 8)]
    ended = watched.engine.run()
    assert [len(r.output) for r in requests] == [5, 1, 8]
    assert [r.id for r in ended] == [1, 0, 2]
    assert all(r.outcome is Outcome.LENGTH and r.seat is None for r in requests)
    assert all(0 <= token < VOCABULARY for r in requests for token in r.output)


def test_an_end_of_sequence_token_ends_a_request_unless_it_is_ignored(model: DsaModel) -> None:
    watched = Watched(model)
    longer = watched.add(20, 8)
    watched.engine.run()
    eos = longer.output[3]
    first = longer.output.index(eos)
    stopping = copy.copy(model)
    stopping.config = model.config.model_copy(update={"eos_token_ids": (255, eos)})
    again = Watched(stopping)
    stopped, ignoring = again.add(20, 8, ignore_eos=False), again.add(20, 8)
    again.engine.run()
    assert stopped.outcome is Outcome.STOP
    assert stopped.output == longer.output[: first + 1]
    assert ignoring.output == longer.output
    assert again.engine.totals.outcomes == {Outcome.STOP: 1, Outcome.LENGTH: 1}


def test_a_seeded_request_gets_the_same_tokens_alone_and_among_others(model: DsaModel) -> None:
    params = {"temperature": 0.9, "top_p": 0.8, "seed": 11}
    alone = Watched(model)
    one = alone.add(20, 8, **params)
    alone.engine.run()
    crowd = Watched(model)
    crowd.add(9, 4, temperature=1.0, seed=1)
    among = crowd.add(20, 8, **params)
    crowd.add(5, 8)
    crowd.engine.run()
    assert among.output == one.output


def test_observers_are_told_the_levels_and_the_totals_of_every_step(model: DsaModel) -> None:
    watched = Watched(model, prefill_chunk_size=8, max_running_requests=1)
    watched.add(12, 3)
    watched.add(2, 1)
    watched.engine.run()
    prefilling, staging, first, last, second_request = watched.seen
    assert prefilling.is_hisparse
    assert (prefilling.levels.device_tokens, prefilling.levels.host_tokens) == (0, 8)
    assert prefilling.levels.host_tokens_reserved == 14 - 8
    assert prefilling.levels.staging_requests == 1
    assert (prefilling.levels.running_requests, prefilling.levels.waiting_requests) == (0, 1)
    assert (staging.levels.staging_requests, staging.levels.host_tokens) == (1, 12)
    assert staging.levels.device_tokens == TOP_K + 1
    assert (first.levels.running_requests, first.levels.host_tokens, first.levels.index_tokens) == (1, 13, 13)
    assert first.levels.device_token_capacity == 15
    assert first.levels.host_token_capacity == first.levels.index_token_capacity == 100
    assert (last.levels.running_requests, last.levels.host_tokens, last.levels.device_tokens) == (0, 0, 0)
    assert second_request.totals.prompt_tokens == 14
    assert second_request.totals.generation_tokens == 4
    assert second_request.totals.decode_steps == 2
    assert second_request.totals.requests_length == 2
    lookups = 2 * TOP_K * model.config.num_hidden_layers
    assert second_request.totals.swap_in_lookups == lookups
    assert second_request.totals.swap_in_hits + second_request.totals.swap_in_misses == lookups


def test_the_peak_is_seen_before_what_finished_is_freed(model: DsaModel) -> None:
    watched = Watched(model)
    watched.add(12, 3)
    watched.engine.run()
    assert watched.engine.peak == (TOP_K + 1, (TOP_K + 1) / 15, 14, 14 / 100)


def test_latencies_are_observed_once_a_token(model: DsaModel) -> None:
    watched = Watched(model)
    watched.add(12, 4)
    watched.add(5, 2)
    watched.engine.run()
    assert len(watched.durations("time_to_first_token_seconds")) == 2
    assert sum(count for _, count in watched.durations("inter_token_latency_seconds")) == 3 + 1
    assert len(watched.durations("decode_step_seconds")) == len(watched.durations("swap_in_seconds")) == 3
    assert len(watched.durations("request_duration_seconds")) == 2
    names = ("time_to_first_token_seconds", "inter_token_latency_seconds", "request_duration_seconds")
    assert all(seconds > 0 for name in names for seconds, _ in watched.durations(name))


def test_a_resident_engine_reports_one_tier(model: DsaModel) -> None:
    watched = Watched(model, {"device_tokens": 40}, mode="resident")
    watched.add(12, 3)
    watched.engine.step()
    (stats,) = watched.seen
    assert not stats.is_hisparse
    assert (stats.levels.device_tokens, stats.levels.host_tokens) == (12, 0)
    assert (stats.levels.host_token_capacity, stats.levels.host_tokens_reserved) == (0, 0)
    watched.engine.run()
    assert watched.durations("swap_in_seconds") == []


def test_full_pools_make_requests_wait_and_lose_none(model: DsaModel) -> None:
    watched = Watched(model, POOLS | {"host_tokens": 30}, prefix_reuse=False)
    requests = [watched.add(20, 5) for _ in range(4)]
    watched.engine.step()
    assert [r.status for r in requests[1:]] == [Status.WAITING] * 3
    watched.engine.run()
    assert len({tuple(r.output) for r in requests}) == 1
    assert watched.engine.peak.host_tokens == 24


@pytest.mark.parametrize("steps", range(5), ids=["waiting", "prefill", "staging", "running", "finished"])
@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_an_abort_frees_everything_at_every_stage(model: DsaModel, mode: str, steps: int) -> None:
    watched = Watched(model, {**POOLS, "device_tokens": 40}, mode=mode, prefill_chunk_size=10)
    request = watched.add(15, 3)
    for _ in range(steps):
        watched.engine.step()
    stages = (Status.WAITING, Status.PREFILL, Status.STAGING, Status.RUNNING, Status.FINISHED)
    assert request.status is stages[steps]
    watched.engine.abort(request)
    expected = Outcome.LENGTH if steps == 4 else Outcome.ABORTED
    assert (request.status, request.outcome) == (Status.FINISHED, expected)
    assert watched.engine.totals.outcomes == {expected: 1}
    assert watched.engine.step() == ([] if steps == 4 else [request])
    assert not watched.engine.has_work
    assert watched.engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)


def test_a_neighbours_abort_changes_no_token(model: DsaModel) -> None:
    alone = Watched(model)
    one = alone.add(20, 8)
    alone.engine.run()
    crowd = Watched(model)
    leaving, staying = crowd.add(15, 8), crowd.add(20, 8)
    for _ in range(4):
        crowd.engine.step()
    crowd.engine.abort(leaving)
    crowd.engine.run()
    assert staying.output == one.output


@pytest.mark.parametrize(
    ("prompt", "new", "error", "message"),
    [
        ([], 1, RequestError, "prompt: is empty; give at least one token"),
        (
            [0, VOCABULARY],
            1,
            RequestError,
            f"prompt: token id {VOCABULARY} is outside the vocabulary of {VOCABULARY}",
        ),
        ([0, -1], 1, RequestError, f"prompt: token id -1 is outside the vocabulary of {VOCABULARY}"),
        (
            [0] * 80,
            11,
            RequestError,
            "prompt: 80 tokens and max_new_tokens 11 make 91, more than the model's 90 positions; shorten either",
        ),
        (
            [0] * 60,
            22,
            CapacityError,
            (
                "the request (prompt 60 + 22 new tokens) needs 81 slots of the host pool, which has 80 in all; "
                "raise --host-tokens, or shorten it"
            ),
        ),
    ],
    ids=["empty", "too large an id", "negative id", "too long for the model", "too long for the pools"],
)
def test_what_cannot_be_served_is_refused_and_counted(
    model: DsaModel, prompt: list[int], new: int, error: type[Exception], message: str
) -> None:
    watched = Watched(model, POOLS | {"host_tokens": 80})
    with pytest.raises(error) as refused:
        watched.engine.add_request(prompt, SamplingParams(max_new_tokens=new))
    assert str(refused.value) == message
    assert watched.engine.totals.outcomes == {Outcome.REJECTED: 1}
    assert not watched.engine.has_work


def test_a_request_that_just_fits_is_served(model: DsaModel) -> None:
    watched = Watched(model, {"device_buffer_size": TOP_K, "device_tokens": TOP_K + 1, "host_tokens": 80})
    request = watched.add(60, 21)
    watched.engine.run()
    assert len(request.output) == 21
    assert watched.engine.peak[:2] == (TOP_K + 1, 1.0)
    assert watched.engine.peak[2:] == (80, 1.0)


def test_the_engine_audits_itself(model: DsaModel, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(model)
    lost = watched.add(12, 8)
    watched.engine.step()
    watched.engine.coordinator.index_keys.pool.num_used += 1
    watched.engine.step()
    assert "index keys: 14 used, but its owners use another number" in caplog.text
    assert watched.seen[-1].totals.invariant_violations == 1
    assert (lost.status, lost.outcome) == (Status.FINISHED, Outcome.FAILED)
    assert watched.seen[-1].totals.requests_failed == 1
    assert watched.engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_after_a_violation_those_who_waited_get_the_tokens_they_would_have_got(
    model: DsaModel, mode: str
) -> None:
    pools = {**POOLS, "device_tokens": 100 if mode == "resident" else 15}
    alone = Watched(model, pools, mode=mode)
    expected = alone.add(16, 8)
    alone.engine.run()
    watched = Watched(model, pools, mode=mode, max_running_requests=1)
    lost, waiting = watched.add(12, 8), watched.add(16, 8)
    watched.engine.step()
    watched.engine.step()
    watched.engine.coordinator.index_keys.pool.num_used += 1
    watched.engine.run()
    assert (lost.outcome, waiting.outcome) == (Outcome.FAILED, Outcome.LENGTH)
    assert waiting.output == expected.output
    assert watched.seen[-1].totals.invariant_violations == 1


def test_an_invariant_that_breaks_in_the_middle_of_a_step_ends_nobody_but_those_with_slots(
    model: DsaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(model, max_running_requests=2)
    ending, lost, waiting = watched.add(12, 2), watched.add(13, 8), watched.add(14, 8)
    watched.engine.step()
    with monkeypatch.context() as broken:
        broken.setattr(
            watched.engine.coordinator, "end_step", lambda: watched.engine.coordinator.device_rows(99)
        )
        broken.setattr(watched.engine.coordinator, "device_rows", _break)
        ended = watched.engine.step()
    assert {request.id for request in ended} == {ending.id, lost.id}
    watched.engine.run()
    assert [r.outcome for r in (ending, lost, waiting)] == [Outcome.FAILED, Outcome.FAILED, Outcome.LENGTH]
    assert watched.seen[-1].totals.invariant_violations == 1
    assert watched.engine.levels().host_tokens == watched.engine.levels().device_tokens == 0


@pytest.mark.parametrize("by", ["abort", "its last token"])
def test_slots_that_cannot_be_taken_back_end_nobody_but_those_with_slots(model: DsaModel, by: str) -> None:
    watched = Watched(model, max_running_requests=2, prefix_reuse=False)
    broken, lost, waiting = watched.add(12, 2), watched.add(13, 8), watched.add(14, 8)
    watched.engine.step()
    watched.engine.coordinator.index_keys.pool.free(broken.held_seat.index.slots[:1])
    if by == "abort":
        watched.engine.abort(broken)
    ended = watched.engine.step()
    assert {request.id for request in ended} >= {broken.id, lost.id}
    watched.engine.run()
    assert [r.outcome for r in (broken, lost, waiting)] == [Outcome.FAILED, Outcome.FAILED, Outcome.LENGTH]
    assert watched.seen[-1].totals.invariant_violations == 1
    assert watched.seen[-1].totals.requests_failed == 2


def _break(layer: int) -> torch.Tensor:
    raise InvariantError(f"layer {layer} has no rows")


def test_a_row_that_went_wrong_is_found_by_verification(model: DsaModel) -> None:
    watched = Watched(model, verify_every=1)
    watched.add(20, 12)
    watched.engine.step()
    watched.engine.step()
    assert watched.seen[-1].totals.verify_mismatches == 0
    for layer in range(model.config.num_hidden_layers):
        watched.engine.coordinator.device_rows(layer).add_(1.0)
    watched.engine.run()
    assert watched.seen[-1].totals.verify_checks > 0
    assert watched.seen[-1].totals.verify_mismatches > 0


def test_capacities_are_known_before_the_first_step(model: DsaModel) -> None:
    watched = Watched(model)
    watched.engine.publish()
    [stats] = watched.seen
    assert (stats.levels.device_token_capacity, stats.levels.host_token_capacity) == (15, 100)
    assert stats.totals.decode_steps == 0


def test_stepping_without_work_does_nothing(model: DsaModel) -> None:
    watched = Watched(model)
    assert not watched.engine.has_work
    assert watched.engine.step() == []
    assert watched.seen[-1].totals.decode_steps == 0
    assert torch.is_inference_mode_enabled() is False
