"""What holds where a client says nothing, and what is too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hisparse_engine.errors import CheckpointError
from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.schema import CompletionBody, parse_body
from hisparse_engine.server.served_model import Limits, SamplingDefaults, ServedModel


def model(**changes: Any) -> ServedModel:
    fields = {
        "defaults": SamplingDefaults(0.6, 0.95),
        "default_chat_tokens": 100,
        "limits": Limits(1000, 500),
    }
    return ServedModel("m", None, None, **fields | changes)


def body(**fields: Any) -> CompletionBody:
    return parse_body(CompletionBody, {"model": "m", "prompt": "a", **fields})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, (1.0, 1.0)), ({}, (1.0, 1.0)), ({"temperature": 0.6, "top_p": 0.95}, (0.6, 0.95)),
        ({"top_p": 1}, (1.0, 1.0)), ({"temperature": 9}, (1.0, 1.0)), ({"temperature": "x"}, (1.0, 1.0)),
    ],
)  # fmt: skip
def test_the_checkpoint_may_recommend_how_to_sample(tmp_path: Path, config: Any, expected: Any) -> None:
    if config is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert SamplingDefaults.read(tmp_path) == expected


def test_a_damaged_recommendation_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        SamplingDefaults.read(tmp_path)


def test_what_the_client_says_wins() -> None:
    job = model().job([1], body(temperature=0, top_p=0.5, seed=3, ignore_eos=True), 7, "prompt")
    assert (job.temperature, job.top_p, job.seed, job.ignore_eos, job.max_new_tokens) == (0, 0.5, 3, True, 7)


def test_without_a_word_the_checkpoint_decides_and_every_seed_is_another() -> None:
    jobs = [model().job([1], body(), 7, "prompt") for _ in range(3)]
    assert (jobs[0].temperature, jobs[0].top_p) == (0.6, 0.95)
    assert len({job.seed for job in jobs}) == 3


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_every_seed_of_the_api_is_one_of_the_engine(seed: int) -> None:
    assert 0 <= model().job([1], body(seed=seed), 7, "prompt").seed < 2**63


@pytest.mark.parametrize(("num_prompt", "expected"), [(10, 100), (450, 51), (501, 1), (800, 1)])
def test_a_chat_gets_the_default_or_what_fits(num_prompt: int, expected: int) -> None:
    assert model().job([1] * num_prompt, body(), None, "messages").max_new_tokens == expected


@pytest.mark.parametrize(("num_prompt", "new"), [(994, 7), (1000, None), (5000, 1)])
def test_more_than_the_positions_is_refused_with_the_numbers(num_prompt: int, new: int | None) -> None:
    with pytest.raises(ApiError) as raised:
        model().job([1] * num_prompt, body(), new, "messages")
    error = raised.value.body["error"]
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    assert f"{num_prompt} tokens" in error["message"]
    assert "1000 positions" in error["message"]


def test_text_needs_a_tokenizer() -> None:
    assert model().encode([1, 2]) == [1, 2]
    with pytest.raises(ApiError, match=r"no tokenizer\.json"):
        model().encode("a")
