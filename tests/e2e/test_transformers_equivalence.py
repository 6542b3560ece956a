"""The same checkpoint through transformers and through the engine: the same tokens, and logits within 1e-4.

Random weights make near ties possible, and a near tie falls as rounding wills. The seeds below are chosen so that
the last selected and the first passed-over candidate (of an indexer, a router, the vocabulary) are always further
apart than rounding errors; for the same reason the indexers have many heads, as few of them score many keys exactly 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from hisparse_engine.cli import main
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Request, SamplingParams
from tests.support.models import (
    BACKENDS,
    TOP_K,
    RecordingEngine,
    edit_config,
    engine_config,
    load,
    random_prompt,
    write_checkpoint,
)

DEEPSEEK, GLM = "DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"
NEW_TOKENS = 64
PROMPT_LENGTHS = (150, 5, 37, 90)
LONGEST = max(PROMPT_LENGTHS)
TOLERANCE = 1e-4
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


@dataclass(frozen=True)
class Shape:
    """One checkpoint: what is special about it, and its seed."""

    name: str
    architecture: str
    seed: int
    keys: dict[str, Any]
    sharded: bool = False
    old_rope: bool = False

    def write(self, folder: Path) -> Path:
        write_checkpoint(folder, self.architecture, seed=self.seed, sharded=self.sharded, **self.keys)
        if self.old_rope:  # as the released checkpoints spell it
            rope = dict(self.keys["rope_parameters"])
            scaling = {"type": rope.pop("rope_type"), **{k: v for k, v in rope.items() if k != "rope_theta"}}
            edit_config(
                folder, remove=["rope_parameters"], rope_scaling=scaling, rope_theta=rope["rope_theta"]
            )
        return folder


SHAPES = (
    Shape("deepseek-groups", DEEPSEEK, 31, {"n_group": 2, "topk_group": 1}),
    Shape(
        "deepseek-old-yarn-bias-sharded",
        DEEPSEEK,
        14,
        {
            "attention_bias": True,
            "qk_nope_head_dim": 24,
            "qk_rope_head_dim": 8,
            "v_head_dim": 40,
            "kv_lora_rank": 36,
            "rope_parameters": {"rope_theta": 50_000.0, **YARN},
        },
        sharded=True,
        old_rope=True,
    ),
    Shape(
        "deepseek-yarn-tied-two-shared-experts",
        DEEPSEEK,
        27,
        {
            "n_group": 4,
            "topk_group": 2,
            "n_shared_experts": 2,
            "tie_word_embeddings": True,
            "norm_topk_prob": False,
            "rope_parameters": {
                "rope_theta": 10_000.0,
                **YARN,
                "mscale": 0.7,
                "factor": 8.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    Shape(
        "glm-full-shared-shared-full",
        GLM,
        4,
        {"num_hidden_layers": 4, "indexer_types": ["full", "shared", "shared", "full"]},
    ),
    Shape(
        "glm-alternating-yarn-sharded",
        GLM,
        11,
        {
            "num_hidden_layers": 4,
            "indexer_types": ["full", "shared", "full", "shared"],
            "n_group": 4,
            "topk_group": 2,
            "n_shared_experts": 2,
            "index_n_heads": 12,
            "rope_parameters": {"rope_theta": 10_000.0, **YARN},
        },
        sharded=True,
    ),
    Shape(
        "glm-all-full-bias-tied-odd-dims",
        GLM,
        6,
        {
            "num_hidden_layers": 3,
            "indexer_types": ["full", "full", "full"],
            "attention_bias": True,
            "tie_word_embeddings": True,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "qk_nope_head_dim": 20,
            "qk_rope_head_dim": 12,
            "v_head_dim": 28,
            "kv_lora_rank": 44,
            "index_head_dim": 24,
        },
    ),
)


@dataclass(frozen=True)
class Answer:
    """What transformers generated greedily, alone in its batch."""

    prompt: list[int]
    tokens: list[int]
    logits: torch.Tensor = field(repr=False)


@dataclass(frozen=True)
class Reference:
    """One checkpoint: loaded by the engine, and its answers from transformers."""

    folder: Path
    model: DsaModel
    answers: tuple[Answer, ...]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.name)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = request.param.write(tmp_path_factory.mktemp(request.param.name))
    return make_reference(folder, seed=request.param.seed)


def make_reference(folder: Path, seed: int) -> Reference:
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs.generation_config.eos_token_id = None
    prompts = [random_prompt(length, seed=100 * seed + i) for i, length in enumerate(PROMPT_LENGTHS)]
    return Reference(folder, load(folder), tuple(answer_of(theirs, prompt) for prompt in prompts))


@torch.inference_mode()
def answer_of(theirs: Any, prompt: list[int]) -> Answer:
    ids = torch.tensor([prompt])
    out = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[0, len(prompt) :].tolist()
    assert len(tokens) == NEW_TOKENS
    return Answer(prompt, tokens, torch.cat(out.logits).clone())


def smallest_pools(batch: int) -> dict[str, int]:
    """The smallest legal buffer, one for each of ``batch`` requests; the device could not hold one long prompt."""
    total = sum(PROMPT_LENGTHS) + batch * NEW_TOKENS
    return {"device_buffer_size": TOP_K, "device_tokens": batch * (TOP_K + 1), "host_tokens": total}


def run(
    model: DsaModel,
    mode: str,
    prompts: list[list[int]],
    pools: dict[str, int],
    backend: str = "eager",
    **fields: Any,
) -> tuple[RecordingEngine, list[Request]]:
    engine = RecordingEngine(
        model, engine_config(mode=mode, hisparse=pools, **fields), backend=BACKENDS[backend]
    )
    params = SamplingParams(max_new_tokens=NEW_TOKENS, ignore_eos=True)
    requests = [engine.add_request(prompt, params) for prompt in prompts]
    engine.run()
    return engine, requests


def assert_same(engine: RecordingEngine, requests: list[Request], answers: tuple[Answer, ...]) -> None:
    for request, answer in zip(requests, answers, strict=True):
        assert request.output == answer.tokens
        worst = (engine.logits_of(request) - answer.logits).abs().amax(dim=1)
        assert worst.max() < TOLERANCE, f"token {int(worst.argmax())}: logits differ by {worst.max():.2e}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_hierarchical_mixed_batch_with_the_smallest_legal_buffers(reference: Reference, backend: str) -> None:
    pools = smallest_pools(batch=4)
    assert pools["device_tokens"] < LONGEST
    prompts = [answer.prompt for answer in reference.answers]
    engine, requests = run(reference.model, "hierarchical", prompts, pools, backend)
    assert_same(engine, requests, reference.answers)
    counters = engine.coordinator.counters
    assert counters.misses > 0
    assert counters.evictions > 0
    assert engine.coordinator.get_token_stats().host_tokens == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_resident_mixed_batch(reference: Reference, backend: str) -> None:
    pools = {"device_tokens": sum(PROMPT_LENGTHS) + 4 * NEW_TOKENS}
    prompts = [answer.prompt for answer in reference.answers]
    engine, requests = run(reference.model, "resident", prompts, pools, backend)
    assert_same(engine, requests, reference.answers)
    assert engine.coordinator.counters.misses == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_hierarchical_one_at_a_time_in_short_chunks(reference: Reference, backend: str) -> None:
    """Prompts far longer than the device pool stream through it, 48 tokens a step."""
    pools = smallest_pools(batch=1)
    for answer in reference.answers:
        engine, requests = run(
            reference.model,
            "hierarchical",
            [answer.prompt],
            pools,
            backend,
            prefill_chunk_size=48,
            verify_every=1,
        )
        assert_same(engine, requests, (answer,))
        assert engine.coordinator.counters.verify_checks > 0
        assert engine.coordinator.counters.verify_mismatches == 0


def test_resident_one_at_a_time_in_short_chunks(reference: Reference) -> None:
    answer = reference.answers[0]
    pools = {"device_tokens": LONGEST + NEW_TOKENS}
    engine, requests = run(reference.model, "resident", [answer.prompt], pools, prefill_chunk_size=48)
    assert_same(engine, requests, (answer,))


def test_requests_that_wait_for_the_pool_get_the_same_tokens(reference: Reference) -> None:
    """Two buffers for four requests: the batch changes as requests leave and others take their slots over."""
    pools = smallest_pools(batch=2) | {"host_tokens": 2 * (LONGEST + NEW_TOKENS)}
    prompts = [a.prompt for a in reference.answers]
    engine, requests = run(reference.model, "hierarchical", prompts, pools, prefill_chunk_size=64)
    assert_same(engine, requests, reference.answers)


def test_larger_buffers_change_nothing_but_the_misses(reference: Reference) -> None:
    prompts = [a.prompt for a in reference.answers]
    misses = []
    for buffer in (3 * TOP_K, LONGEST + NEW_TOKENS):
        pools = smallest_pools(4) | {"device_buffer_size": buffer, "device_tokens": 4 * (buffer + 1)}
        engine, requests = run(reference.model, "hierarchical", prompts, pools)
        assert_same(engine, requests, reference.answers)
        misses.append(engine.coordinator.counters.misses)
    assert misses[0] > misses[1] == 0


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_hisparse_generate_prints_the_same_tokens(mode: str, reference: Reference) -> None:
    prompts = [f"--prompt-ids={','.join(map(str, answer.prompt))}" for answer in reference.answers]
    options = [
        f"--mode={mode}",
        f"--device-buffer-size={TOP_K}",
        f"--max-new-tokens={NEW_TOKENS}",
        "--ignore-eos",
    ]
    result = CliRunner().invoke(
        main, ["generate", f"--model={reference.folder}", "--json", *options, *prompts]
    )
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert [one["token_ids"] for one in printed] == [answer.tokens for answer in reference.answers]
    assert {one["mode"] for one in printed} == {mode}
    stats = printed[0]["stats"]
    assert stats["swap_in_hits"] + stats["swap_in_misses"] == stats["swap_in_lookups"]
    assert (stats["swap_in_misses"] > 0) == (stats["host_tokens"] > 0) == (mode == "hierarchical")


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[3]], ids=lambda shape: shape.name)
def test_bf16_hierarchical_equals_resident_bit_for_bit(shape: Shape, tmp_path: Path) -> None:
    model = load(shape.write(tmp_path), dtype=torch.bfloat16)
    prompts = [random_prompt(length, seed=i) for i, length in enumerate(PROMPT_LENGTHS)]
    results = []
    for mode, pools in (("hierarchical", smallest_pools(4)), ("resident", {"device_tokens": 600})):
        engine, requests = run(model, mode, prompts, pools, dtype="bfloat16", prefill_chunk_size=64)
        assert engine.coordinator.device_rows(0).dtype == torch.bfloat16
        results.append((engine, requests))
    (hierarchical, ours), (resident, theirs) = results
    for one, other in zip(ours, theirs, strict=True):
        assert one.output == other.output
        assert torch.equal(hierarchical.logits_of(one), resident.logits_of(other))
