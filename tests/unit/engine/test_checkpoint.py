"""Checkpoint folders: both layouts, released fp8 weights, every kind of damage, and memory while loading."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.quantization import dequantise_into

NUM_LAYERS = 2
CONFIG: dict[str, Any] = {"architectures": ["DeepseekV32ForCausalLM"], "num_hidden_layers": NUM_LAYERS}
Tensors = dict[str, torch.Tensor]


def norm(layer: int) -> str:
    return f"model.layers.{layer}.input_layernorm.weight"


def expert(layer: int, index: int) -> str:
    return f"model.layers.{layer}.mlp.experts.{index}.down_proj.weight"


def some_tensors() -> Tensors:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "lm_head.weight": (6, 4),
        norm(0): (4,),
        norm(1): (4,),
        expert(1, 0): (4, 3),
        expert(1, 1): (4, 3),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_single(folder: Path, tensors: Tensors, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_sharded(folder: Path, tensors: Tensors, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    places = {}
    for number, (name, tensor) in enumerate(tensors.items(), start=1):
        places[name] = f"model-{number:05d}-of-{len(tensors):05d}.safetensors"
        save_file({name: tensor}, folder / places[name])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


BOTH_LAYOUTS = pytest.mark.parametrize("write", [write_single, write_sharded])
Writer = Callable[..., Path]


@BOTH_LAYOUTS
def test_every_tensor_loads_as_it_was_written(tmp_path: Path, write: Writer) -> None:
    tensors = some_tensors()
    with Checkpoint.open(write(tmp_path, tensors)) as checkpoint:
        assert checkpoint.config.num_hidden_layers == NUM_LAYERS
        assert checkpoint.names == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.load(name, tuple(tensor.shape), torch.float32), tensor)


def test_loaded_tensors_outlive_the_checkpoint_and_the_file(tmp_path: Path) -> None:
    tensors = some_tensors()
    with Checkpoint.open(write_single(tmp_path, tensors)) as checkpoint:
        head = checkpoint.load("lm_head.weight", (6, 4), torch.float32)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(head, tensors["lm_head.weight"])


def test_what_transformers_writes_loads(tmp_path: Path) -> None:
    from transformers import GlmMoeDsaConfig, GlmMoeDsaForCausalLM

    config: Any = json.loads("""{
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4,
        "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "num_attention_heads": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "v_head_dim": 8,
        "qk_rope_head_dim": 8, "index_topk": 8, "index_head_dim": 8, "index_n_heads": 2
    }""")
    model = GlmMoeDsaForCausalLM(GlmMoeDsaConfig(**config))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    with Checkpoint.open(tmp_path) as checkpoint:
        weight = model.get_parameter("model.layers.0.self_attn.q_b_proj.weight")
        assert torch.equal(
            checkpoint.load("model.layers.0.self_attn.q_b_proj.weight", (32, 16), torch.float32), weight
        )
        stacked = model.get_parameter("model.layers.3.mlp.experts.down_proj")
        for i in range(4):
            assert torch.equal(checkpoint.load(expert(3, i), (32, 16), torch.float32), stacked[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loading_casts_to_the_dtype_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = some_tensors()["lm_head.weight"].bfloat16()
    with Checkpoint.open(write_single(tmp_path, {"lm_head.weight": stored})) as checkpoint:
        loaded = checkpoint.load("lm_head.weight", (6, 4), dtype)
    assert loaded.dtype == dtype
    assert torch.equal(loaded, stored.to(dtype))


def test_experts_load_into_their_slices_of_one_parameter(tmp_path: Path) -> None:
    tensors = some_tensors()
    stacked = torch.nn.Parameter(torch.zeros(2, 4, 3))
    with Checkpoint.open(write_sharded(tmp_path, tensors)) as checkpoint:
        for i in range(2):
            assert checkpoint.load(expert(1, i), (4, 3), torch.float32, out=stacked[i]).data_ptr() == (
                stacked[i].data_ptr()
            )
    assert torch.equal(stacked, torch.stack([tensors[expert(1, i)] for i in range(2)]))


@BOTH_LAYOUTS
def test_prediction_layers_are_ignored(tmp_path: Path, write: Writer) -> None:
    tensors = some_tensors() | {norm(NUM_LAYERS): torch.ones(4), norm(NUM_LAYERS + 10): torch.ones(4)}
    with Checkpoint.open(write(tmp_path, tensors)) as checkpoint:
        assert checkpoint.names == some_tensors().keys()
        assert not checkpoint.has(norm(NUM_LAYERS))
        assert checkpoint.has(norm(NUM_LAYERS - 1))


def test_a_shard_with_prediction_layers_only_need_not_be_there(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"lm_head.weight": torch.ones(1, 1), norm(NUM_LAYERS): torch.ones(4)})
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.names == {"lm_head.weight"}


def test_unused_names_what_nobody_asked_for(tmp_path: Path) -> None:
    with Checkpoint.open(write_single(tmp_path, some_tensors())) as checkpoint:
        assert checkpoint.unused({norm(0), norm(1), "lm_head.weight"}) == [expert(1, 0), expert(1, 1)]
        assert checkpoint.unused(checkpoint.names) == []


# Block-scaled fp8, as released ------------------------------------------------------------------------------------

OLD_STYLE: dict[str, Any] = {
    "torch_dtype": "bfloat16",
    "num_nextn_predict_layers": 1,
    "rope_theta": 10000,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "mscale_all_dim": 1.0,
    },
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}
FP8_SHAPES = {
    "model.layers.0.self_attn.q_b_proj.weight": (256, 128),
    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": (176, 200),  # ragged in both directions
    "model.layers.1.self_attn.o_proj.weight": (7, 5),  # smaller than one block
    "model.layers.2.eh_proj.weight": (128, 128),  # prediction layer
}


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise [rows, columns] in 128×128 blocks, the plain way, one block after the other."""
    blocks_down, blocks_across = -(-weight.shape[0] // 128), -(-weight.shape[1] // 128)
    scales = torch.empty(blocks_down, blocks_across)
    stored = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
    for i in range(blocks_down):
        for j in range(blocks_across):
            block = slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128)
            scales[i, j] = weight[block].abs().max() / 448
            stored[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
    return stored, scales


def dequantise_elementwise(stored: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    row, column = torch.meshgrid(torch.arange(stored.shape[0]), torch.arange(stored.shape[1]), indexing="ij")
    return stored.float() * scales.float()[row // 128, column // 128]


def released_like() -> tuple[Tensors, Tensors]:
    """Tensors as a release stores them, and the values that they stand for."""
    generator = torch.Generator().manual_seed(1)
    stored: Tensors = {"lm_head.weight": torch.randn(6, 4, generator=generator).bfloat16()}
    values = dict(stored)
    for name, shape in FP8_SHAPES.items():
        weight, scales = quantise(torch.randn(shape, generator=generator))
        stored |= {name: weight, f"{name}_scale_inv": scales}
        values[name] = dequantise_elementwise(weight, scales)
    return stored, values


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_released_fp8_checkpoint_loads_exactly(tmp_path: Path, write: Writer, dtype: torch.dtype) -> None:
    stored, values = released_like()
    with Checkpoint.open(write(tmp_path, stored, **OLD_STYLE)) as checkpoint:
        assert checkpoint.config.num_nextn_predict_layers == 1
        assert checkpoint.config.rope.type == "yarn"
        assert checkpoint.names == values.keys() - {"model.layers.2.eh_proj.weight"}
        for name in checkpoint.names:
            loaded = checkpoint.load(name, tuple(values[name].shape), dtype)
            assert torch.equal(loaded, values[name].to(dtype)), name


def test_dequantised_values_are_near_the_weights_that_were_quantised() -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(2))
    out = torch.empty_like(weight)
    dequantise_into(out, *quantise(weight), (128, 128))
    assert torch.allclose(out, weight, rtol=2**-4, atol=1e-2)


def test_dequantising_in_steps_equals_dequantising_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, scales = quantise(torch.randn(700, 130, generator=torch.Generator().manual_seed(3)))
    for limit in (1, 128 * 130, 300 * 130, 1 << 30):
        monkeypatch.setattr("hisparse_engine.models.quantization.MAX_TEMPORARY_ELEMENTS", limit)
        out = torch.empty(700, 130)
        dequantise_into(out, stored, scales, (128, 128))
        assert torch.equal(out, dequantise_elementwise(stored, scales))


def test_scales_may_be_bfloat16_and_load_into_slices(tmp_path: Path) -> None:
    weight, scales = quantise(torch.randn(130, 40, generator=torch.Generator().manual_seed(4)))
    stored = {"a.weight": weight, "a.weight_scale_inv": scales.bfloat16()}
    stacked = torch.zeros(3, 130, 40)
    with Checkpoint.open(write_single(tmp_path, stored, **OLD_STYLE)) as checkpoint:
        checkpoint.load("a.weight", (130, 40), torch.float32, out=stacked[1])
    assert torch.equal(stacked[1], dequantise_elementwise(weight, scales.bfloat16()))
    assert not stacked[0].any()
    assert not stacked[2].any()


# Damage -----------------------------------------------------------------------------------------------------------


def refusal(folder: Path, action: Callable[[Checkpoint], object] = lambda _: None) -> str:
    with pytest.raises(CheckpointError) as caught, Checkpoint.open(folder) as checkpoint:
        action(checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert (
        refusal(folder)
        == f"{folder}: no such folder; give the folder that holds config.json and *.safetensors"
    )


def test_no_config(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path / 'config.json'}: no such file; give a folder with")


def test_pickled_weights_only(tmp_path: Path) -> None:
    write_single(tmp_path, some_tensors())
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: found neither model.safetensors nor model.safetensors.index.json")
    assert "convert them with save_pretrained" in message


def test_a_truncated_file_says_both_sizes(tmp_path: Path) -> None:
    path = write_single(tmp_path, some_tensors()) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert refusal(tmp_path) == (
        f"{path}: got {len(whole) - 10} bytes, expected {len(whole)} by its header; "
        "the download was cut short or altered: repeat it"
    )


def test_a_truncated_shard_is_found_at_opening(tmp_path: Path) -> None:
    path = write_sharded(tmp_path, some_tensors()) / "model-00003-of-00005.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(tmp_path).startswith(f"{path}: got ")


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 64, (2).to_bytes(8, "little") + b"xx", (400).to_bytes(8, "little") + b'{"a":'],
    ids=["empty", "short", "noise", "no-json", "cut-header"],
)
def test_a_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    path = write_single(tmp_path, some_tensors()) / "model.safetensors"
    path.write_bytes(content)
    assert refusal(tmp_path).startswith(f"{path}: not a valid safetensors file of {len(content)} bytes (")


def test_a_git_lfs_pointer(tmp_path: Path) -> None:
    path = write_single(tmp_path, some_tensors()) / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert "run 'git lfs pull'" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("write", "searched"), [(write_single, "model.safetensors"), (write_sharded, "index.json")]
)
def test_a_missing_tensor_names_the_file_searched(tmp_path: Path, write: Writer, searched: str) -> None:
    write(tmp_path, some_tensors())
    message = refusal(tmp_path, lambda c: c.load("model.norm.weight", (4,), torch.float32))
    assert searched + ": tensor 'model.norm.weight' is missing; use a complete checkpoint" in message
    assert message.startswith(str(tmp_path))


def test_a_wrong_shape_names_file_tensor_got_and_expected(tmp_path: Path) -> None:
    write_sharded(tmp_path, some_tensors())
    message = refusal(tmp_path, lambda c: c.load("lm_head.weight", (4, 6), torch.float32))
    path = tmp_path / "model-00001-of-00005.safetensors"
    assert message.startswith(f"{path}: tensor 'lm_head.weight': got shape [6, 4], expected [4, 6]; ")


def test_the_index_names_a_shard_that_is_not_there(tmp_path: Path) -> None:
    path = write_sharded(tmp_path, some_tensors()) / "model-00002-of-00005.safetensors"
    path.unlink()
    assert refusal(tmp_path) == f"{path}: no such file; download the missing part of the checkpoint"


def test_the_index_places_a_tensor_where_it_is_not(tmp_path: Path) -> None:
    path = write_sharded(tmp_path, some_tensors()) / "model-00001-of-00005.safetensors"
    save_file({"other": torch.ones(1)}, path)
    message = (
        f"{path}: tensor 'lm_head.weight' is missing, though model.safetensors.index.json places it here"
    )
    assert refusal(tmp_path).startswith(message)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "key 'weight_map': expected an object"),
        (
            '{"weight_map": {"a": "../../etc/passwd"}}',
            "tensor 'a': got file '../../etc/passwd', expected a file name",
        ),
        ('{"weight_map": {"a": 3}}', "tensor 'a': got file 3, expected a file name"),
        ("nonsense", "not valid JSON"),
    ],
)
def test_an_unusable_index(tmp_path: Path, index: str, message: str) -> None:
    path = write_sharded(tmp_path, some_tensors()) / "model.safetensors.index.json"
    path.write_text(index)
    assert refusal(tmp_path).startswith(f"{path}: {message}")


def test_an_unsupported_dtype(tmp_path: Path) -> None:
    write_single(tmp_path, {"a.weight": torch.ones(2, 2, dtype=torch.int8)})
    message = refusal(tmp_path, lambda c: c.load("a.weight", (2, 2), torch.float32))
    assert "tensor 'a.weight': got dtype I8, expected F32/BF16/F16, or F8_E4M3 with scales" in message


def test_fp8_without_scales(tmp_path: Path) -> None:
    write_single(tmp_path, {"a.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)})
    message = refusal(tmp_path, lambda c: c.load("a.weight", (2, 2), torch.float32))
    assert "got dtype F8_E4M3, expected F32/BF16/F16, or F8_E4M3 with scales" in message


def test_scales_beside_a_weight_that_is_not_fp8(tmp_path: Path) -> None:
    write_single(tmp_path, {"a.weight": torch.ones(2, 2), "a.weight_scale_inv": torch.ones(1, 1)})
    message = refusal(tmp_path, lambda c: c.load("a.weight", (2, 2), torch.float32))
    assert "tensor 'a.weight': got dtype F32, expected F8_E4M3 beside a weight_scale_inv" in message


def test_scales_of_another_block_size(tmp_path: Path) -> None:
    weight, _ = quantise(torch.ones(256, 128))
    write_single(tmp_path, {"a.weight": weight, "a.weight_scale_inv": torch.ones(4, 2)}, **OLD_STYLE)
    message = refusal(tmp_path, lambda c: c.load("a.weight", (256, 128), torch.float32))
    assert "tensor 'a.weight_scale_inv': got shape [4, 2], expected [2, 1]" in message


# Memory -----------------------------------------------------------------------------------------------------------

LOAD_UNDER_A_LIMIT = """
import re, resource, sys, torch
from pathlib import Path
from hisparse_engine.models.checkpoint import Checkpoint
folder, extra_bytes = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
torch.ones(4, 4).to(torch.float8_e4m3fn).float().repeat_interleave(2, dim=0)  # first-use allocations come before
with Checkpoint.open(folder) as checkpoint:
    # Private memory from here on; the mapped file is counted already, and costs nothing that cannot be dropped.
    now = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
    resource.setrlimit(resource.RLIMIT_DATA, (now + extra_bytes, now + extra_bytes))
    names = sorted(checkpoint.names)
    stacked = torch.empty(len(names), 2048, 2048)
    for i, name in enumerate(names):
        checkpoint.load(name, (2048, 2048), torch.float32, out=stacked[i])
"""


@pytest.mark.parametrize("stored_as", ["float32", "fp8"])
def test_loading_never_holds_a_second_copy(tmp_path: Path, stored_as: str) -> None:
    names = [f"{i}.weight" for i in range(8)]
    if stored_as == "float32":
        stored = {name: torch.ones(2048, 2048) for name in names}
    else:
        stored = {name: torch.ones(2048, 2048).to(torch.float8_e4m3fn) for name in names}
        stored |= {f"{name}_scale_inv": torch.ones(16, 16) for name in names}
    write_single(tmp_path, stored, **OLD_STYLE)
    parameters = 8 * 2048 * 2048 * 4
    assert loads_within(tmp_path, parameters + parameters // 2)
    assert not loads_within(tmp_path, parameters // 2)  # the limit bites


def loads_within(folder: Path, extra_bytes: int) -> bool:
    command = [sys.executable, "-c", LOAD_UNDER_A_LIMIT, str(folder), str(extra_bytes)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
