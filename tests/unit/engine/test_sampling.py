"""Greedy and nucleus sampling: distribution, reproducibility, and independence of whoever else is in the batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from hisparse_engine.request import Request, RequestError, SamplingParams
from hisparse_engine.sampling import Logprobs, sample

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -4.0])
DRAWS = 4000


def request(**params: Any) -> Request:
    return Request(0, (1,), SamplingParams(**params), arrived=0.0)


def draw(one: Request, count: int = DRAWS, logits: torch.Tensor = LOGITS) -> list[int]:
    return [int(sample(logits[None], [one])) for _ in range(count)]


def assert_distributed(tokens: list[int], probabilities: torch.Tensor) -> None:
    counts = Counter(tokens)
    for token, p in enumerate(probabilities.tolist()):
        spread = 5 * (p * (1 - p) / len(tokens)) ** 0.5
        assert abs(counts[token] / len(tokens) - p) <= spread, f"token {token}"


def test_temperature_zero_takes_the_best() -> None:
    assert draw(request(temperature=0.0), 3) == [0, 0, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_the_softmax_says(temperature: float) -> None:
    expected = torch.softmax(LOGITS.double() / temperature, dim=0)
    assert_distributed(draw(request(temperature=temperature, seed=7)), expected)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    probabilities = torch.softmax(LOGITS.double(), dim=0)  # 0.64, 0.24, 0.09, 0.03, 0.00
    kept = torch.where(torch.arange(5) < 2, probabilities, 0.0)
    tokens = draw(request(temperature=1.0, top_p=0.7, seed=7))
    assert set(tokens) == {0, 1}
    assert_distributed(tokens, kept / kept.sum())


@pytest.mark.parametrize("top_p", [1e-9, 0.6])
def test_top_p_always_keeps_the_best(top_p: float) -> None:
    assert set(draw(request(temperature=1.0, top_p=top_p), 50)) == {0}


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    first, again, other = (draw(request(temperature=2.0, seed=seed), 40) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_requests_tokens_do_not_depend_on_its_neighbours() -> None:
    alone = draw(request(temperature=2.0, seed=5), 40)
    one, greedy, neighbour = request(temperature=2.0, seed=5), request(), request(temperature=1.0, seed=9)
    batch = torch.stack([LOGITS.flip(0), LOGITS, LOGITS * 2])
    together = [sample(batch, [neighbour, one, greedy]).tolist() for _ in range(40)]
    assert [tokens[1] for tokens in together] == alone
    assert {tokens[2] for tokens in together} == {0}


def test_the_last_bits_of_logits_hardly_ever_choose_another_token() -> None:
    logits = torch.randn(256, generator=torch.Generator().manual_seed(3))
    noise = 1e-6 * torch.randn(256, generator=torch.Generator().manual_seed(4))
    here, there = (draw(request(temperature=1.0, seed=11), 2000, x) for x in (logits, logits + noise))
    assert here == there
    assert len(set(here)) > 100


def test_bf16_logits_are_sampled_as_they_are() -> None:
    logits = LOGITS.bfloat16()
    assert draw(request(temperature=1.0, seed=3), 40, logits) == draw(request(temperature=1.0, seed=3), 40)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature: must be 0 (greedy) or more, got -0.1"),
        ({"temperature": float("nan")}, "temperature: must be 0 (greedy) or more, got nan"),
        ({"temperature": float("inf")}, "temperature: must be 0 (greedy) or more, got inf"),
        ({"top_p": 0.0}, "top_p: must be in (0, 1], got 0.0"),
        ({"top_p": 1.1}, "top_p: must be in (0, 1], got 1.1"),
        ({"seed": -1}, "seed: must be in [0, 2^63), got -1"),
        ({"seed": 2**63}, f"seed: must be in [0, 2^63), got {2**63}"),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_with_the_rule_and_the_value(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as refused:
        SamplingParams(**params)
    assert str(refused.value) == message


def test_logprobs_are_kept_for_whoever_asked_and_know_nothing_of_temperature() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    asked = Request(0, (1,), SamplingParams(temperature=2.0, top_p=0.1, logprobs=3), 0.0)
    silent = Request(1, (1,), SamplingParams(), 0.0)
    found = Logprobs(logits, [asked, silent], torch.tensor([7, 8]))
    expected = torch.log_softmax(logits[0], dim=-1)
    best = expected.topk(3)
    given = found.of(0)
    assert given is not None
    chosen, ids, values = given
    assert chosen == pytest.approx(float(expected[7]))
    assert list(ids) == best.indices.tolist()
    assert list(values) == pytest.approx(best.values.tolist())
    assert found.of(1) is None


def test_more_logprobs_than_tokens_are_all_tokens() -> None:
    request = Request(0, (1,), SamplingParams(logprobs=20), 0.0)
    found = Logprobs(torch.zeros(1, 5), [request], torch.tensor([0])).of(0)
    assert found is not None
    assert sorted(found.top_ids) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("number", [-1, 21])
def test_the_number_of_logprobs_has_a_limit(number: int) -> None:
    with pytest.raises(RequestError, match=r"logprobs: must be in \[0, 20\]"):
        SamplingParams(logprobs=number)
