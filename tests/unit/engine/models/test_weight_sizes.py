"""What a model's weights are said to take is what the loaded model takes, by headers and by config alike."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.models.hf_config import parse_config, read_config
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.models.weight_sizes import tensors, weigh, weigh_config
from tests.support.allocations import tensor_bytes
from tests.support.models import edit_config, load, tiny_config, write_checkpoint

ROOT = Path(__file__).parents[4]
ARCHITECTURES = ("DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM")
TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("sharded"), "GlmMoeDsaForCausalLM", sharded=True, attention_bias=True
    )


def held(model: DsaModel) -> int:
    return tensor_bytes(model, without=(model.rope,))


@pytest.mark.parametrize("dtype", TORCH)
def test_headers_config_and_the_loaded_model_agree(checkpoint: Path, dtype: str) -> None:
    config = read_config(checkpoint)
    by_headers = weigh(checkpoint, config, dtype, fused=False)
    by_config = weigh_config(config, dtype, fused=False)
    assert by_headers.num_bytes == by_config.num_bytes == held(load(checkpoint, TORCH[dtype]))
    assert (by_headers.source, by_config.source) == ("safetensors headers", "shapes in config.json")
    assert sum(by_headers.by_kind.values()) == by_headers.num_bytes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("keys", [{}, {"tie_word_embeddings": True}, {"n_shared_experts": 2}])
def test_every_tensor_of_a_checkpoint_is_counted_and_no_other(
    architecture: str, keys: dict[str, object], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path, architecture, **keys)
    with Checkpoint.open(folder) as opened:
        expected = {tensor.name: tensor.shape for tensor in tensors(opened.config)}
        assert expected.keys() == opened.names - (
            {"lm_head.weight"} if keys.get("tie_word_embeddings") else set()
        )
        assert weigh(folder, opened.config, "float32", fused=False).num_bytes == held(load(folder))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_fused_decoder_takes_what_is_said(architecture: str) -> None:
    pytest.importorskip("triton")
    from hisparse_engine.models.cuda_dsa import FusedDecoder

    config = tiny_config(
        architecture, attention_bias=True, n_shared_experts=2, dtype="bfloat16", tie_word_embeddings=False
    )
    weights = RandomWeights(0, torch.bfloat16, CPU)
    decoder = FusedDecoder(weights, config)
    ends = sum(
        t.num_bytes("bfloat16", "bfloat16", fused=True)
        for t in tensors(config)
        if t.kind.startswith("embedding")
    )
    assert weigh_config(config, "bfloat16", fused=True).num_bytes == tensor_bytes(decoder) + ends


def test_fp32_matrices_in_bf16_parts_are_bounded(checkpoint: Path) -> None:
    pytest.importorskip("triton")
    from hisparse_engine.models.cuda_dsa import FusedDecoder
    from hisparse_engine.models.weights import WeightReader

    with Checkpoint.open(checkpoint) as opened:
        weights = WeightReader(opened, torch.bfloat16, CPU)
        decoder = FusedDecoder(weights.at("model"), opened.config)
        said = weigh(checkpoint, opened.config, "bfloat16", fused=True)
    taken, ends = tensor_bytes(decoder), said.by_kind["embedding and head"]
    assert taken <= said.num_bytes - ends <= 1.01 * taken


@pytest.mark.parametrize(("name", "billions"), [("deepseek_v32", 672), ("glm5", 744)])
def test_the_released_models_have_their_parameters(name: str, billions: int) -> None:
    config = read_config(ROOT / "tests/data" / name)
    assert round(weigh_config(config, "bfloat16", fused=False).num_bytes / 2e9) == billions


def test_prediction_layers_and_scales_are_not_counted(checkpoint: Path, tmp_path: Path) -> None:
    config = read_config(checkpoint)
    names = [tensor for tensor in tensors(config) if not tensor.name.startswith("model.layers.0.mlp.up")]
    scaled = next(tensor for tensor in tensors(config) if tensor.name == "model.layers.0.mlp.up_proj.weight")
    header = {t.name: {"dtype": "F32", "shape": list(t.shape), "data_offsets": [0, 0]} for t in names}
    header[scaled.name] = {"dtype": "F8_E4M3", "shape": list(scaled.shape), "data_offsets": [0, 0]}
    header[f"{scaled.name}_scale_inv"] = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 0]}
    header[f"model.layers.{config.num_hidden_layers}.enorm.weight"] = {"dtype": "F32", "shape": [64]}
    write_header(tmp_path / "model.safetensors", json.dumps(header).encode())
    expected = weigh(checkpoint, config, "bfloat16", fused=False).num_bytes
    assert weigh(tmp_path, config, "bfloat16", fused=False).num_bytes == expected


def test_a_folder_without_weights_is_weighed_by_its_config(tmp_path: Path) -> None:
    config = parse_config({"architectures": ["DeepseekV32ForCausalLM"]}, tmp_path)
    assert weigh(tmp_path, config, "bfloat16", fused=True).source == "shapes in config.json"


def write_header(path: Path, header: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "has no safetensors header"),
        (struct.pack("<Q", 100) + b'{"a": {"dtype"', "has no safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "has no safetensors header"),
        (b"", "has no safetensors header"),
        (struct.pack("<Q", 2) + b"{}", "tensor 'model.embed_tokens.weight' is missing"),
    ],
)
def test_a_damaged_header_is_named(content: bytes, message: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors|is missing") as error:
        weigh(tmp_path, read_config(checkpoint), "float32", fused=False)
    assert message in str(error.value)


def test_a_shape_of_another_release_is_named(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = read_config(edit_config(tmp_path, vocab_size=300))
    with pytest.raises(CheckpointError, match=r"got shape \[256, 64\], expected \[300, 64\]"):
        weigh(tmp_path, config, "float32", fused=False)


def test_a_missing_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    index = "model.safetensors.index.json"
    (tmp_path / index).write_bytes((checkpoint / index).read_bytes())
    with pytest.raises(CheckpointError, match=r"-of-.*no such file; download the missing part"):
        weigh(tmp_path, read_config(checkpoint), "float32", fused=False)
    (tmp_path / index).write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(CheckpointError, match="key 'weight_map'"):
        weigh(tmp_path, read_config(checkpoint), "float32", fused=False)
