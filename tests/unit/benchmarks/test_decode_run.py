"""The cells of `decode.py` from options to rows, on the CPU with a model that fits a page."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import decode, decode_engine, decode_run
from benchmarks.decode_ablation import ATTEND, REST, SELECT, SWAP_IN
from benchmarks.decode_locality import Locality
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.models.hf_config import parse_config
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.ops import reference

SHAPES = {
    "architectures": ["GlmMoeDsaForCausalLM"], "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32,
    "moe_intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "index_topk": 32, "index_head_dim": 16,
    "index_n_heads": 4, "indexer_types": ["full", "full", "shared"], "first_k_dense_replace": 1,
    "rope_theta": 10_000.0, "max_position_embeddings": 4096,
}  # fmt: skip


def tiny(_layers: int, _experts: int) -> ModelConfig:
    return parse_config(SHAPES, Path("config.json"))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = SimpleNamespace(**vars(reference), build=lambda: None)
    monkeypatch.setitem(sys.modules, "hisparse_engine.ops.gpu.operations", operations)
    monkeypatch.setattr("hisparse_engine.ops.gpu.operations", operations, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(decode_engine, "SETTLING_STEPS", 2)
    monkeypatch.setattr(decode_engine, "HISTORY_STEPS", 4)
    monkeypatch.setitem(decode_run.MODELS, "glm5", tiny)
    real = decode_run.scenario_of
    monkeypatch.setattr(decode_run, "scenario_of", lambda options: replace(real(options), dtype="float32"))
    monkeypatch.setattr(
        decode_run, "Locality", lambda turnover: Locality(top_k=32, window=4, turnover=turnover)
    )


def options(*arguments: str) -> Namespace:
    common = [
        "--model",
        "glm5",
        "--contexts",
        "400",
        "--concurrency",
        "1",
        "2",
        "--steps",
        "2",
        "--warmup",
        "1",
    ]
    parsed = decode.parse([*common, "--buffer", "64", "--new-tokens", "80", *arguments])
    parsed.device_gib, parsed.host_gib = 600_000 / 2**30, 1_000_000 / 2**30
    return parsed


def rows_of(parsed: Namespace) -> list[dict[str, Any]]:
    model = DsaModel(RandomWeights(1, torch.float32, torch.device("cpu")), tiny(0, 0))
    return list(decode_run.Bench(parsed, model, None).run())


def test_every_mode_runs_what_was_asked_for_and_the_most_that_fits() -> None:
    rows = rows_of(options())
    ran = {
        mode: [row["concurrency"] for row in rows if row["mode"] == mode]
        for mode in ("resident", "hierarchical")
    }
    assert ran["resident"] == [1, 2]
    assert ran["hierarchical"][:2] == [1, 2]
    assert len(ran["hierarchical"]) == 3
    assert [row["most"] for row in rows] == [False, True, False, False, True]
    assert all(row["tokens"] == 2 * row["concurrency"] for row in rows)
    assert all(row["selection"] == "32 misses" and row["context"] == 400 for row in rows)


def test_a_step_is_taken_apart() -> None:
    rows = rows_of(options("--parts", "--only-most", "--modes", "hierarchical"))
    assert "parts_ms" not in rows[0] or rows[0] is rows[-1]
    parts = rows[-1]["parts_ms"]
    assert list(parts) == [SWAP_IN, ATTEND, SELECT, REST]
    assert sum(parts.values()) == pytest.approx(rows[-1]["step_ms"], abs=1e-3)


def test_the_models_own_indexer_may_select() -> None:
    (row,) = rows_of(options("--own-indexer", "--only-most", "--modes", "resident"))
    assert row["selection"] == "own indexer"
    assert row["misses_per_step"] == 0


def test_a_failure_is_a_row_and_the_next_mode_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, *_: Any) -> None:
        if self._setting.mode == "resident":
            raise RuntimeError("no luck")

    monkeypatch.setattr(decode_engine.BenchEngine, "admit", fail)
    monkeypatch.setattr(
        decode_run,
        "measure",
        lambda *_, **__: {"tokens_per_second": 1.0, "step_ms": 1.0, "misses_per_step": 0},
    )
    monkeypatch.setattr(decode_engine.BenchEngine, "hot_slots", 0)
    rows = rows_of(options())
    assert rows[0]["error"] == "RuntimeError: no luck"
    assert [row["mode"] for row in rows] == ["resident", *["hierarchical"] * 3]


def test_no_cell_begins_when_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows_of(options("--seconds", "-1")) == []
    assert "left out" in capsys.readouterr().out
