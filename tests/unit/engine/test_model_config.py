"""``config.json`` → ``ModelConfig``: every spelling that releases use, transformers' defaults, and one clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.config import BlockFp8, ModelConfig
from hisparse_engine.models.hf_config import DEFAULTS, parse_config, read_config

DEEPSEEK, GLM = "DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"
SOURCE = Path("folder/config.json")
YARN = {
    "type": "yarn",
    "factor": 40,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


def parse(architecture: str = DEEPSEEK, **keys: object) -> ModelConfig:
    return parse_config({"architectures": [architecture], **keys}, SOURCE)


def hf_config(architecture: str, **keys: Any) -> Any:
    from transformers import DeepseekV32Config, GlmMoeDsaConfig

    return {DEEPSEEK: DeepseekV32Config, GLM: GlmMoeDsaConfig}[architecture](**keys)


@pytest.mark.parametrize("architecture", [DEEPSEEK, GLM])
def test_omitted_keys_take_the_class_defaults_of_transformers(architecture: str) -> None:
    ours, theirs = parse(architecture), hf_config(architecture)
    for key in DEFAULTS[architecture].keys() - {"num_nextn_predict_layers"}:
        assert getattr(ours, key) == getattr(theirs, key), key
    assert list(ours.mlp_layer_types) == theirs.mlp_layer_types
    assert list(ours.indexer_types) == getattr(theirs, "indexer_types", ["full"] * 61)
    assert ours.eos_token_ids == (theirs.eos_token_id,)
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert ours.qk_head_dim == theirs.qk_head_dim


@pytest.mark.parametrize("architecture", [DEEPSEEK, GLM])
def test_what_transformers_writes_reads_back(architecture: str, tmp_path: Path) -> None:
    theirs = hf_config(architecture, num_hidden_layers=5, first_k_dense_replace=2, rope_scaling=dict(YARN))
    theirs.architectures = [architecture]
    theirs.save_pretrained(tmp_path)
    ours = read_config(tmp_path)
    assert list(ours.mlp_layer_types) == theirs.mlp_layer_types
    assert (ours.rope.type, ours.rope.factor, ours.rope.original_max_position_embeddings) == (
        "yarn",
        40,
        4096,
    )


ROPES: list[dict[str, Any]] = [
    {"rope_theta": 1e6},
    {"rope_scaling": None, "rope_theta": 1e6},
    {"rope_scaling": dict(YARN), "rope_theta": 5e4},
    {"rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.0}},
    {"rope_scaling": {**YARN, "mscale": None, "mscale_all_dim": None}},
    {"rope_scaling": {**YARN, "attention_factor": 1.25}},
    {"rope_scaling": {**YARN, "factor": None}, "max_position_embeddings": 163840},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    {"rope_parameters": {**YARN, "rope_type": "yarn", "rope_theta": 2e4, "truncate": False}},
    {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}, "rope_theta": 3e4},
]


@pytest.mark.parametrize("keys", ROPES, ids=range(len(ROPES)))
def test_rope_scales_equal_the_reference(keys: dict[str, Any]) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.deepseek_v32.modeling_deepseek_v32 import yarn_apply_mscale

    ours, theirs = parse(**keys), hf_config(DEEPSEEK, **json.loads(json.dumps(keys)))
    parameters = theirs.rope_parameters
    if parameters.get("factor", 1) is None:
        parameters["factor"] = (
            ours.rope.factor
        )  # the reference model cannot scale without it; RoPE itself can
    assert ours.rope.theta == parameters["rope_theta"]
    assert ours.rope.type == parameters["rope_type"]
    assert ours.softmax_scale == yarn_apply_mscale(parameters, theirs.qk_head_dim**-0.5)
    if ours.rope.type == "yarn":
        assert ours.rope.original_max_position_embeddings == parameters["original_max_position_embeddings"]
        assert ours.rope.cos_sin_scale == ROPE_INIT_FUNCTIONS["yarn"](theirs, None)[1]
    else:
        assert ours.rope.cos_sin_scale == 1.0


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"index_topk_freq": 4, "index_skip_topk_offset": 3},
    {"index_topk_freq": 2},
    {"index_topk_freq": 0},
    {"index_topk_pattern": "FSSFSSFS"},
    {"index_topk_pattern": ["full", "full", "shared", "shared", "full", "shared", "shared", "shared"]},
    {"index_topk_pattern": None, "index_topk_freq": 3, "index_skip_topk_offset": 1},
    {"indexer_types": ["full", "shared"] * 4, "index_topk_freq": 4},
]


@pytest.mark.parametrize("keys", SCHEDULES, ids=range(len(SCHEDULES)))
def test_indexer_schedules_equal_the_reference(keys: dict[str, Any]) -> None:
    ours = parse(GLM, num_hidden_layers=8, **keys)
    assert list(ours.indexer_types) == hf_config(GLM, num_hidden_layers=8, **keys).indexer_types
    assert ours.num_full_indexer_layers == sum(ours.runs_indexer(i) for i in range(8))


def test_deepseek_runs_the_indexer_in_every_layer() -> None:
    assert set(parse(DEEPSEEK, indexer_types=["full", "shared"]).indexer_types) == {"full"}


def test_indexer_rope_is_half_split_for_deepseek_and_interleaved_for_glm() -> None:
    assert not parse(DEEPSEEK).indexer_rope_interleaved
    assert parse(GLM).indexer_rope_interleaved
    assert not parse(GLM, indexer_rope_interleave=False).indexer_rope_interleaved


def test_a_released_deepseek_config() -> None:
    config = parse(
        torch_dtype="bfloat16",
        model_type="deepseek_v32",
        num_nextn_predict_layers=1,
        moe_layer_freq=1,
        scoring_func="sigmoid",
        topk_method="noaux_tc",
        rope_scaling=YARN,
        rope_theta=10000,
        quantization_config={
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "scale_fmt": "ue8m0",
            "weight_block_size": [128, 128],
        },
    )
    assert config.quantization == BlockFp8(block_shape=(128, 128))
    assert config.dtype == "bfloat16"
    assert config.kv_row_dim == 576
    assert config.mlp_layer_types == ("dense",) * 3 + ("sparse",) * 58
    assert [config.is_sparse_mlp(i) for i in (2, 3)] == [False, True]


def test_moe_layer_frequency_of_older_configs() -> None:
    types = parse(num_hidden_layers=6, first_k_dense_replace=1, moe_layer_freq=2).mlp_layer_types
    assert types == ("dense", "dense", "sparse", "dense", "sparse", "dense")


def test_lists_that_cover_prediction_layers_are_cut() -> None:
    config = parse(GLM, num_hidden_layers=2, mlp_layer_types=["dense"] * 3, indexer_types=["full"] * 3)
    assert config.mlp_layer_types == ("dense", "dense")
    assert config.indexer_types == ("full", "full")


def test_model_type_alone_names_the_architecture() -> None:
    assert parse_config({"model_type": "glm_moe_dsa"}, SOURCE).architecture == GLM


@pytest.mark.parametrize("alias", ["num_experts", "num_local_experts"])
def test_other_names_of_the_expert_count(alias: str) -> None:
    assert parse(GLM, **{alias: 64}).n_routed_experts == 64


def test_generation_config_overrides_the_end_ids(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [GLM], "eos_token_id": 2}))
    assert read_config(tmp_path).eos_token_ids == (2,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [154820, 154827]}')
    assert read_config(tmp_path).eos_token_ids == (154820, 154827)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert read_config(tmp_path).eos_token_ids == (2,)


UNFIT: list[tuple[dict[str, Any], str]] = [
    (
        {"architectures": ["LlamaForCausalLM"]},
        "key 'architectures': got [\"LlamaForCausalLM\"], expected one of Deep",
    ),
    (
        {"architectures": None},
        "key 'architectures': got null, expected one of DeepseekV32ForCausalLM, GlmMoeDsaFor",
    ),
    ({"architectures": 3}, "key 'architectures': got 3, expected one of"),
    ({"hidden_size": -4}, "key 'hidden_size': got -4, expected greater than or equal to 1"),
    ({"hidden_size": "64"}, "key 'hidden_size': got \"64\", expected a valid integer"),
    ({"hidden_size": True}, "key 'hidden_size': got true, expected a valid integer"),
    ({"index_topk": 0}, "key 'index_topk': got 0, expected greater than or equal to 1"),
    ({"q_lora_rank": None}, "key 'q_lora_rank': got null, expected a valid integer"),
    (
        {"num_hidden_layers": 10**15},
        "key 'num_hidden_layers': got 1000000000000000, expected less than or equal",
    ),
    ({"num_hidden_layers": "many"}, "key 'num_hidden_layers': got \"many\", expected a valid integer"),
    ({"rms_norm_eps": float("nan")}, "key 'rms_norm_eps': got NaN, expected a finite number"),
    ({"first_k_dense_replace": 1.5}, "key 'first_k_dense_replace': got 1.5, expected an integer"),
    ({"moe_layer_freq": 0}, "key 'moe_layer_freq': got 0, expected at least 1"),
    ({"qk_rope_head_dim": 63}, "key 'qk_rope_head_dim': got 63, expected an even number"),
    ({"qk_rope_head_dim": 256}, "key 'qk_rope_head_dim': got 256, expected at most index_head_dim"),
    ({"n_group": 7}, "key 'n_routed_experts': got 256, expected a multiple of n_group"),
    ({"n_group": 256}, "key 'n_routed_experts': got 256, expected at least two experts per group"),
    ({"topk_group": 9}, "key 'topk_group': got 9, expected at most n_group"),
    (
        {"num_experts_per_tok": 129},
        "key 'num_experts_per_tok': got 129, expected at most topk_group × experts",
    ),
    (
        {"mlp_layer_types": ["dense"]},
        "key 'mlp_layer_types': got [\"dense\"], expected num_hidden_layers entries",
    ),
    (
        {"mlp_layer_types": ["wide"] * 61},
        "key 'mlp_layer_types.0': got \"wide\", expected 'dense' or 'sparse'",
    ),
    ({"mlp_layer_types": 3}, "key 'mlp_layer_types': got 3, expected"),
    ({"hidden_act": "gelu"}, 'key \'hidden_act\': got "gelu", expected "silu"'),
    ({"scoring_func": "softmax"}, 'key \'scoring_func\': got "softmax", expected "sigmoid"'),
    ({"rope_interleave": False}, "key 'rope_interleave': got false, expected true"),
    (
        {"rope_scaling": {"type": "linear"}},
        "key 'rope_scaling.rope_type': got \"linear\", expected 'default' or 'yarn'",
    ),
    (
        {"rope_scaling": {"type": "yarn", "factor": "x"}},
        "key 'rope_scaling.factor': got \"x\", expected a valid number",
    ),
    (
        {"rope_parameters": {"rope_type": "yarn", "factor": -1}},
        "key 'rope_parameters.factor': got -1, expected greater",
    ),
    (
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        "key 'rope_parameters.partial_rotary_factor': got 0.5, exp",
    ),
    ({"rope_scaling": 4}, "key 'rope_scaling': got 4, expected an object"),
    ({"rope_theta": "hot"}, "key 'rope_theta': got \"hot\", expected a valid number"),
    ({"eos_token_id": "</s>"}, "key 'eos_token_id.0': got \"</s>\", expected a valid integer"),
    ({"torch_dtype": "float64"}, "key 'dtype': got \"float64\", expected 'float32', 'bfloat16' or 'float16'"),
    (
        {"quantization_config": {"quant_method": "awq"}},
        "key 'quantization_config.quant_method': got \"awq\", expec",
    ),
    (
        {"quantization_config": {"quant_method": "fp8", "fmt": "e5m2", "weight_block_size": [128, 128]}},
        "key 'quantization_config.fmt': got \"e5m2\", expected 'e4m3'",
    ),
    (
        {"quantization_config": {"quant_method": "fp8"}},
        "key 'quantization_config.weight_block_size': got null, expected [rows, columns]",
    ),
    (
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 128]}},
        "key 'quantization_config.weight_block_size.0': got 0, expected greater than or equal to 1",
    ),
]


@pytest.mark.parametrize(
    ("keys", "message"), UNFIT, ids=[next(iter(k)) + str(i) for i, (k, _) in enumerate(UNFIT)]
)
def test_an_unfit_value_is_one_error_naming_file_key_got_and_expected(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse(**keys)
    assert str(caught.value).startswith(f"{SOURCE}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("types", [["shared", "full"], "SF"])
def test_a_first_layer_without_a_top_k_to_share_is_refused(types: object) -> None:
    key = "indexer_types" if isinstance(types, list) else "index_topk_pattern"
    with pytest.raises(
        CheckpointError, match=r"key 'indexer_types': got .*, expected 'full' for the first layer"
    ):
        parse(GLM, num_hidden_layers=2, **{key: types})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give a folder with a Hugging Face checkpoint"),
        (b'{"architectures": [', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "got a JSON list, expected an object"),
    ],
)
def test_an_unreadable_config_is_one_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: {message}")


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse().hidden_size = 3


def test_configs_are_read_without_torch() -> None:
    code = "import sys, hisparse_engine.models.hf_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
