"""Settings: every wrong field at once, and sizes derived from what was left open."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from pydantic import ValidationError

from hisparse_engine.config import EngineConfig, EngineSettings, HiSparseConfig
from hisparse_engine.errors import ConfigError
from hisparse_engine.kv import PoolSizes


def problem_of(**fields: object) -> str:
    with pytest.raises(ConfigError) as refused:
        EngineConfig.parse(**fields)
    return str(refused.value)


def test_every_wrong_field_is_reported_at_once() -> None:
    message = problem_of(
        mode="fast", prefill_chunk_size=0, max_running_requests=-3, hisparse={"device_tokens": -1, "hosts": 2}
    )
    parts = message.split("; ")
    assert len(parts) == 5
    for expected in (
        "mode: Input should be 'hierarchical' or 'resident', got 'fast'",
        "prefill_chunk_size: Input should be greater than or equal to 1, got 0",
        "max_running_requests: Input should be greater than or equal to 1, got -3",
        "hisparse.device_tokens: Input should be greater than or equal to 1, got -1",
        "hisparse.hosts: Extra inputs are not permitted, got 2",
    ):
        assert expected in parts


@pytest.mark.parametrize("field", ["device_buffer_size", "device_tokens", "host_tokens", "index_tokens"])
@pytest.mark.parametrize("size", [0, -5])
def test_sizes_are_positive(field: str, size: int) -> None:
    with pytest.raises(ConfigError, match=f"{field}: Input should be greater than or equal to 1, got {size}"):
        HiSparseConfig.parse(**{field: size})


def test_cuda_without_a_device_says_what_to_use() -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    assert problem_of(device="cuda") == "device: no CUDA device is visible to PyTorch; use --device cpu"


def test_a_config_is_frozen() -> None:
    config = EngineConfig.parse()
    with pytest.raises(ValidationError, match="frozen"):
        config.mode = "resident"


@pytest.mark.parametrize(
    ("device", "dtype", "checkpoint", "expected"),
    [
        ("cuda", "auto", "bfloat16", "bfloat16"),
        ("cuda", "auto", "float16", "bfloat16"),
        ("cuda", "auto", "float32", "float32"),
        ("cpu", "auto", "bfloat16", "float32"),
        ("cpu", "auto", "float32", "float32"),
        ("cuda", "float32", "bfloat16", "float32"),
        ("cpu", "bfloat16", "float32", "bfloat16"),
    ],
)
def test_a_dtype_that_nobody_gave_is_the_checkpoints_on_a_gpu_and_float32_on_the_cpu(
    device: Literal["cpu", "cuda"],
    dtype: Literal["auto", "float32", "bfloat16"],
    checkpoint: str,
    expected: str,
) -> None:
    settings = EngineSettings(device=device, dtype=dtype)
    assert settings.dtype_for(checkpoint) == settings.row_dtype_for(checkpoint) == expected
    in_float8 = settings.model_copy(update={"kv_cache_dtype": "float8"})
    assert (in_float8.dtype_for(checkpoint), in_float8.row_dtype_for(checkpoint)) == (expected, "float8")


def test_a_dtype_that_nobody_gave_is_auto() -> None:
    assert EngineSettings().dtype == "auto"


def test_sizes_left_open_are_derived() -> None:
    sizes = HiSparseConfig().resolve(mode="hierarchical", top_k=16, max_running_requests=4)
    assert sizes == PoolSizes(
        device_buffer_size=32, device_tokens=4 * 33, host_tokens=8 * 4 * 33, index_tokens=8 * 4 * 33
    )


def test_a_resident_engine_keeps_index_keys_for_its_device_pool() -> None:
    sizes = HiSparseConfig.parse(device_tokens=50).resolve(mode="resident", top_k=16, max_running_requests=4)
    assert (sizes.device_tokens, sizes.index_tokens) == (50, 50)


def test_sizes_that_were_given_are_kept() -> None:
    given = {"device_buffer_size": 16, "device_tokens": 17, "host_tokens": 90, "index_tokens": 80}
    sizes = HiSparseConfig.parse(**given).resolve(mode="hierarchical", top_k=16, max_running_requests=4)
    assert sizes == PoolSizes(**given)


def test_a_buffer_smaller_than_top_k_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError) as refused:
        HiSparseConfig.parse(device_buffer_size=15).resolve(
            mode="hierarchical", top_k=16, max_running_requests=4
        )
    assert str(refused.value) == (
        "device_buffer_size: 15 is smaller than the model's index_topk 16, and a step attends that many rows at once; "
        "set --device-buffer-size to 16 or more (or leave it out for 32)"
    )


def test_the_buffer_does_not_matter_to_a_resident_engine() -> None:
    config = HiSparseConfig.parse(device_buffer_size=1, device_tokens=9)
    assert config.resolve(mode="resident", top_k=16, max_running_requests=4).device_tokens == 9
