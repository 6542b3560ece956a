"""Which path an engine takes: the fast one where it can, else the reference, and always with the reason."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.decoding import backend
from hisparse_engine.engine import Engine
from hisparse_engine.errors import ConfigError
from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops import reference
from hisparse_engine.ops.gpu.build import KernelBuildError
from tests.support.models import engine_config, tiny_model

LAYOUT = KVLayout.from_indexer_types(64, 32, ["full", "full"])
SIZES = PoolSizes(100, 100, 100, 10)


def fake_model(*, capturable: bool = True, latent_dim: int = 48) -> DsaModel:
    shapes = SimpleNamespace(kv_lora_rank=latent_dim)
    model = SimpleNamespace(
        device=torch.device("cuda"), dtype=torch.bfloat16, capturable=capturable, config=shapes
    )
    return cast(DsaModel, model)


def config(**fields: Any) -> EngineConfig:
    return EngineConfig.parse(**{"dtype": "bfloat16", **fields})


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which backend would be made, and make none."""
    made: list[str] = []
    for name in ("eager_backend", "table_backend"):
        monkeypatch.setattr(backend, name, lambda *_, name=name: made.append(name))
    return made


def choose(model: DsaModel, settings: EngineConfig, layout: KVLayout = LAYOUT) -> None:
    backend.choose_backend(model, settings, layout, SIZES, lambda: 0.0)


def test_kernels_that_build_are_used(taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_gpu_operations", lambda *_: reference)
    choose(fake_model(), config())
    assert taken == ["table_backend"]


def test_kernels_that_do_not_build_are_said_and_done_without(
    taken: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KernelBuildError("the CUDA compiler nvcc is not there; install it")

    monkeypatch.setattr(backend, "_gpu_operations", fail)
    with caplog.at_level(logging.WARNING):
        choose(fake_model(), config())
    assert taken == ["eager_backend"]
    assert "reference path, correct and slow: the CUDA compiler nvcc is not there; install it" in caplog.text


@pytest.mark.parametrize(
    ("model", "layout", "reason"),
    [
        (fake_model(capturable=False), LAYOUT, "use --dtype bfloat16"),
        (
            fake_model(),
            KVLayout.from_indexer_types(63, 32, ["full"]),
            "a KV row of 126 bytes is no multiple of 16",
        ),
        (
            fake_model(latent_dim=384),
            LAYOUT._replace(row_dim=528, float8_rows=True),
            "a KV row in float8 has a latent of 384 numbers, no power of two",
        ),
    ],
)
def test_a_model_that_the_kernels_cannot_run_goes_the_other_way(
    taken: list[str], caplog: pytest.LogCaptureFixture, model: DsaModel, layout: KVLayout, reason: str
) -> None:
    with caplog.at_level(logging.WARNING):
        choose(model, config(), layout)
    assert taken == ["eager_backend"]
    assert reason in caplog.text


def test_whoever_asks_for_the_reference_gets_it_without_a_word(
    taken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    choose(fake_model(), config(kernels="reference"))
    assert taken == ["eager_backend"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("fields", "why"),
    [({}, "which are not used on the CPU"), ({"kernels": "reference"}, "which are not used on the CPU")],
)
def test_fp8_index_keys_without_kernels_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"index_key_dtype: float8 needs the compiled kernels: {why}; use model"
    ):
        Engine(tiny_model(), engine_config(index_key_dtype="float8", **fields))


def test_fp8_index_keys_are_refused_when_the_kernels_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KernelBuildError("no compiler")

    monkeypatch.setattr(backend, "_gpu_operations", fail)
    with pytest.raises(ConfigError, match="no compiler; use model"):
        choose(fake_model(), config(index_key_dtype="float8"))
