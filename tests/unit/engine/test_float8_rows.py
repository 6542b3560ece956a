"""KV rows in float8: their shape, what is lost by them, and which models cannot have them."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest
import torch

from hisparse_engine.config import EngineSettings
from hisparse_engine.demo.texts import corpus
from hisparse_engine.engine import Engine
from hisparse_engine.errors import ConfigError
from hisparse_engine.layout import KVLayout
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops import reference
from hisparse_engine.ops.float8_rows import packed_bytes, row_bytes
from hisparse_engine.ops.reference.attention import quantise_rows
from hisparse_engine.plan.assemble import blueprint_of
from hisparse_engine.request import SamplingParams
from hisparse_engine.row_format import ComputedRows, Float8Rows, row_format_of
from hisparse_engine.tokenizer import Tokenizer
from tests.support.models import (
    BACKENDS,
    RecordingEngine,
    engine_config,
    load,
    random_prompt,
    tiny_config,
    tiny_model,
)
from tests.support.wide_demo import wide_demo_checkpoint

SHAPES = [(512, 64), (128, 16), (256, 10), (384, 6)]


# ---- the format ----------------------------------------------------------------------------------------------


def test_a_row_of_deepseek_v32_has_656_bytes() -> None:
    layout = KVLayout.of_model(
        tiny_config(kv_lora_rank=512, qk_rope_head_dim=64, index_head_dim=64), "float8"
    )
    assert (layout.row_dim, layout.float8_rows, layout.row_bytes(4)) == (656, True, 656)
    assert row_bytes(512, 64) == packed_bytes(512, 64)  # nothing is filled up


@pytest.mark.parametrize(("latent", "rope"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_rows_give_back_what_they_were_of(latent: int, rope: int, dtype: torch.dtype) -> None:
    rows = torch.randn(7, latent + rope).mul_(torch.logspace(-3, 3, 7).unsqueeze(1)).to(dtype)
    rows[3] = 0
    kept = Float8Rows(latent, rope)
    stored = kept.store(rows)
    assert stored.shape == (7, row_bytes(latent, rope))
    assert stored.shape[1] % 16 == 0
    assert torch.equal(stored[:, : packed_bytes(latent, rope)], quantise_rows(rows, latent))
    assert not stored[:, packed_bytes(latent, rope) :].any()
    assert kept.store(stored) is stored
    loaded = kept.load(stored, torch.float32)
    assert torch.equal(loaded[:, latent:], rows[:, latent:].bfloat16().float())
    groups = rows[:, :latent].float().view(7, -1, 128)
    error = (loaded[:, :latent].view_as(groups) - groups).abs()
    largest = groups.abs().amax(dim=-1, keepdim=True)
    assert bool((error <= torch.maximum(groups.abs() / 15, largest / (448 * 512))).all())
    assert float(error.norm() / groups.norm()) > 0.005  # it is float8


@pytest.mark.parametrize(("latent", "rope"), SHAPES)
def test_what_fills_a_row_up_is_not_attended(latent: int, rope: int) -> None:
    rows = Float8Rows(latent, rope).store(torch.randn(20, latent + rope))
    query, slots = torch.randn(3, 2, latent + rope), torch.randint(0, 20, (3, 9), dtype=torch.int32)
    expected = reference.attend(query, rows, slots, scale=0.1, latent_dim=latent)
    rows[:, packed_bytes(latent, rope) :] = 0x7F
    assert torch.equal(reference.attend(query, rows, slots, scale=0.1, latent_dim=latent), expected)
    assert expected.abs().sum() > 0


def test_the_layout_says_how_rows_are_stored() -> None:
    model = tiny_config(kv_lora_rank=256)
    for kind, expected in (("auto", ComputedRows(torch.bfloat16)), ("float8", Float8Rows(256, 16))):
        layout = KVLayout.of_model(model, kind)  # type: ignore[arg-type]
        stored = row_format_of(layout, model, torch.bfloat16)
        assert stored == expected
        assert stored.store(torch.randn(2, 272)).shape[1] == layout.row_dim


# ---- engines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_both_tiers_hold_bytes_of_which_the_plan_knows(backend: str, mode: str) -> None:
    pools = {"device_buffer_size": 16, "device_tokens": 60, "host_tokens": 90}
    config = engine_config(mode=mode, kv_cache_dtype="float8", hisparse=pools, verify_every=1)
    engine = Engine(tiny_model(kv_lora_rank=128), config, backend=BACKENDS[backend])
    request = engine.add_request(random_prompt(40, 1), SamplingParams(10, ignore_eos=True))
    engine.run()
    assert len(request.output) == 10
    token = blueprint_of(engine.model.config, EngineSettings(kv_cache_dtype="float8")).token(
        resident=mode == "resident"
    )
    held = [engine.coordinator.device_pool]  # type: ignore[attr-defined]
    if mode == "hierarchical":
        held.append(engine.coordinator.host_pool)  # type: ignore[attr-defined]
        assert engine.coordinator.counters.verify_checks > 0
        assert engine.coordinator.counters.verify_mismatches == 0
        assert engine.coordinator.counters.host_to_device_bytes % 176 == 0
    for pool in held:
        assert pool.rows.dtype == torch.uint8
        assert pool.rows.nbytes == pool.capacity * token.kv_rows == pool.capacity * 3 * 176
        assert pool.rows.any()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DsaModel, list[list[int]]]:
    """The demo's model and prompts of real text, short of its top-k and long past it."""
    folder: Path = wide_demo_checkpoint(tmp_path_factory.mktemp("demo"))
    tokens = Tokenizer.open(folder).encode(corpus()[:20_000])
    return load(folder), [tokens[length : 2 * length] for length in (60, 130, 500, 1500)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_demos_logits_lose_half_a_percent(demo: tuple[DsaModel, list[list[int]]], backend: str) -> None:
    """Token by token, as long as both choose the same; now and then another expert is chosen, which is far away."""
    exact, rounded = (logits_of(*demo, BACKENDS[backend], kind) for kind in ("auto", "float8"))
    errors: list[float] = []
    for one, other in zip(exact, rounded, strict=True):
        same = len(list(takewhile(bool, (one.argmax(1) == other.argmax(1)).tolist()))) + 1
        errors += ((other - one).norm(dim=1) / one.norm(dim=1))[:same].tolist()
    errors.sort()
    assert len(errors) > 30
    assert 0.001 < errors[len(errors) // 2] < 0.01
    assert errors[len(errors) * 9 // 10] < 0.02


def logits_of(model: DsaModel, prompts: list[list[int]], backend: object, kind: str) -> list[torch.Tensor]:
    """Return each prompt's logits, the rows centred."""
    pools = {"device_buffer_size": 128, "device_tokens": 4 * 129, "host_tokens": 2400}
    config = engine_config(kv_cache_dtype=kind, hisparse=pools, max_running_requests=4)
    engine = RecordingEngine(model, config, backend=backend)
    requests = [engine.add_request(prompt, SamplingParams(16, ignore_eos=True)) for prompt in prompts]
    engine.run()
    assert engine.coordinator.counters.misses > 0
    found = [engine.logits_of(request) for request in requests]
    return [logits - logits.mean(dim=1, keepdim=True) for logits in found]


# ---- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [32, 64, 192, 500])
def test_latents_that_groups_do_not_fill_are_refused(latent: int) -> None:
    with pytest.raises(ConfigError) as refused:
        Engine(tiny_model(kv_lora_rank=latent), engine_config(kv_cache_dtype="float8"))
    assert str(refused.value) == (
        "kv_cache_dtype: float8 has a scale for every 128 numbers of a latent, and the model's latents have "
        f"{latent} (kv_lora_rank), no multiple of that; use auto"
    )
