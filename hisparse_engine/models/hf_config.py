"""HF's ``config.json`` → ``ModelConfig``: older and newer spellings, defaults, and one clear error for the rest.

Omitted keys take the class defaults of ``DeepseekV32Config`` and ``GlmMoeDsaConfig`` (a test compares them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import cast

from pydantic import ValidationError

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.config import MAX_LAYERS, ModelConfig

_SHARED_DEFAULTS: Mapping[str, object] = {
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "bos_token_id": 0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "index_topk": 2048,
    "index_head_dim": 128,
    "num_nextn_predict_layers": 0,
}

DEFAULTS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "DeepseekV32ForCausalLM": {
            **_SHARED_DEFAULTS,
            "vocab_size": 129280,
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "num_hidden_layers": 61,
            "num_attention_heads": 128,
            "q_lora_rank": 1536,
            "v_head_dim": 128,
            "qk_nope_head_dim": 128,
            "n_group": 8,
            "topk_group": 4,
            "max_position_embeddings": 163840,
            "rms_norm_eps": 1e-6,
            "index_n_heads": 64,
        },
        "GlmMoeDsaForCausalLM": {
            **_SHARED_DEFAULTS,
            "vocab_size": 154880,
            "hidden_size": 6144,
            "intermediate_size": 12288,
            "num_hidden_layers": 78,
            "num_attention_heads": 64,
            "q_lora_rank": 2048,
            "v_head_dim": 256,
            "qk_nope_head_dim": 192,
            "n_group": 1,
            "topk_group": 1,
            "max_position_embeddings": 202752,
            "rms_norm_eps": 1e-5,
            "index_n_heads": 32,
        },
    }
)
"""Per architecture: keys that ``ModelConfig`` takes over under the same name, and their defaults."""

_MODEL_TYPES = {"deepseek_v32": "DeepseekV32ForCausalLM", "glm_moe_dsa": "GlmMoeDsaForCausalLM"}

# Keys for which the reference models know one value only; any other would decode to nonsense.
_ONLY_VALUES: Mapping[str, object] = {
    "hidden_act": "silu",
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "rope_interleave": True,
}

_PATTERN_LETTERS = {"F": "full", "S": "shared"}


def read_config(folder: Path) -> ModelConfig:
    """Parse ``folder``'s config; end-of-sequence ids come from ``generation_config.json`` where it has them."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder; give the folder that holds config.json and *.safetensors"
        )
    generation = folder / "generation_config.json"
    eos = read_json_object(generation).get("eos_token_id") if generation.exists() else None
    return parse_config(read_json_object(folder / "config.json"), folder / "config.json", eos)


def read_json_object(path: Path) -> dict[str, object]:
    """Read the JSON object in ``path``; ``CheckpointError`` when it is missing, unreadable or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; give a folder with a Hugging Face checkpoint (config.json and *.safetensors)"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); download the file again") from None
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path}: got a JSON {type(value).__name__}, expected an object; download it again"
        )
    return value


def parse_config(raw: Mapping[str, object], source: Path, generation_eos: object = None) -> ModelConfig:
    """Build the ``ModelConfig`` of ``raw``, the content of ``source``; ``CheckpointError`` names the key at fault."""
    keys = _Keys(raw, source)
    architecture = _architecture(keys)
    for key, only in _ONLY_VALUES.items():
        if keys.get(key, only) != only:
            raise keys.problem(key, keys.get(key), json.dumps(only))
    defaults = DEFAULTS[architecture]
    fields: dict[str, object] = {key: raw.get(key, default) for key, default in defaults.items()}
    fields |= {
        "architecture": architecture,
        "n_routed_experts": _n_routed_experts(keys, fields["n_routed_experts"]),
        "num_nextn_predict_layers": fields["num_nextn_predict_layers"] or 0,
        "mlp_layer_types": _mlp_layer_types(keys, _layer_count(fields["num_hidden_layers"])),
        "indexer_types": _indexer_types(keys, architecture, _layer_count(fields["num_hidden_layers"])),
        "indexer_rope_interleaved": keys.get(
            "indexer_rope_interleave", architecture == "GlmMoeDsaForCausalLM"
        ),
        "rope": _rope(keys, fields["max_position_embeddings"]),
        "eos_token_ids": _token_ids(
            keys.get("eos_token_id", 1) if generation_eos is None else generation_eos
        ),
        "quantization": _quantization(keys),
        "dtype": _dtype(keys),
    }
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        raise _first_problem(keys, fields, error) from None


@dataclass(frozen=True)
class _Keys:
    """One JSON object of ``source``; ``prefix`` is the path of keys that leads to it."""

    raw: Mapping[str, object]
    source: Path
    prefix: str = ""

    def get(self, key: str, default: object = None) -> object:
        """Look ``key`` up; absent and null are the same."""
        value = self.raw.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int) -> int:
        """Like ``get`` for a number that arithmetic needs before the whole is validated."""
        value = self.get(key, default)
        if type(value) is not int:
            raise self.problem(key, value, "an integer")
        return value

    def inner(self, key: str) -> _Keys:
        """Step into the object under ``key``; absent is empty."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.problem(key, value, "an object")
        return _Keys(cast("dict[str, object]", value), self.source, f"{self.prefix}{key}.")

    def problem(self, key: str, got: object, expected: str) -> CheckpointError:
        """Say in one sentence what is wrong with ``key``."""
        return CheckpointError(
            f"{self.source}: key {self.prefix + key!r}: got {_shown(got)}, expected {expected}; "
            "use an unmodified DeepSeek-V3.2 or GLM-5 checkpoint, or correct the key"
        )


def _shown(value: object) -> str:
    """Spell a JSON value as the file does, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."


def _architecture(keys: _Keys) -> str:
    named = keys.get("architectures") or [_MODEL_TYPES.get(str(keys.get("model_type")))]
    known = [name for name in named if name in DEFAULTS] if isinstance(named, list) else []
    if len(known) == 1:
        return str(known[0])
    got = keys.get("architectures") or keys.get("model_type")
    raise keys.problem("architectures", got, f"one of {', '.join(DEFAULTS)}")


def _n_routed_experts(keys: _Keys, own: object) -> object:
    """Prefer its other names, ``num_experts`` and ``num_local_experts``, where they are used."""
    return keys.get("num_experts", keys.get("num_local_experts", own))


def _layer_count(value: object) -> int:
    """Count the layers to list; 0 for a value that validation is going to refuse."""
    return value if type(value) is int and value <= MAX_LAYERS else 0


def _mlp_layer_types(keys: _Keys, num_layers: int) -> object:
    given = keys.get("mlp_layer_types")
    if given is not None:
        return _per_layer(given, num_layers)
    first, every = keys.integer("first_k_dense_replace", 3), keys.integer("moe_layer_freq", 1)
    if every < 1:
        raise keys.problem("moe_layer_freq", every, "at least 1")
    return tuple("sparse" if i >= first and i % every == 0 else "dense" for i in range(num_layers))


def _indexer_types(keys: _Keys, architecture: str, num_layers: int) -> object:
    if architecture == "DeepseekV32ForCausalLM":
        return ("full",) * num_layers
    given = keys.get("indexer_types", keys.get("index_topk_pattern"))
    if isinstance(given, str):
        given = [_PATTERN_LETTERS.get(letter, letter) for letter in given]
    if given is not None:
        return _per_layer(given, num_layers)
    every, offset = max(keys.integer("index_topk_freq", 1), 1), keys.integer("index_skip_topk_offset", 2)
    return tuple("shared" if max(i - offset + 1, 0) % every else "full" for i in range(num_layers))


def _per_layer(given: object, num_layers: int) -> object:
    """Keep one entry per decoder layer; entries beyond them describe prediction layers."""
    return tuple(given[:num_layers]) if isinstance(given, list) else given


def _rope_key(keys: _Keys) -> str:
    """Name the object that describes RoPE: ``rope_scaling`` (older) goes before ``rope_parameters`` (newer)."""
    return "rope_scaling" if keys.get("rope_scaling") else "rope_parameters"


def _rope(keys: _Keys, max_positions: object) -> dict[str, object]:
    inner = keys.inner(_rope_key(keys))
    if inner.get("partial_rotary_factor", 1) != 1:
        raise inner.problem("partial_rotary_factor", inner.get("partial_rotary_factor"), "1")
    theta = inner.get("rope_theta", keys.get("rope_theta", 10_000.0))
    rope_type = inner.get("rope_type", inner.get("type", "default"))
    if rope_type not in ("default", "yarn"):
        raise inner.problem("rope_type", rope_type, "'default' or 'yarn'")
    if rope_type == "default":
        return {"theta": theta, "original_max_position_embeddings": max_positions}
    return {"type": rope_type, "theta": theta, **_yarn(keys, inner, max_positions)}


def _yarn(keys: _Keys, inner: _Keys, max_positions: object) -> dict[str, object]:
    own = inner.get("original_max_position_embeddings", max_positions)
    original = keys.get("original_max_position_embeddings", own)
    values = {"factor": inner.get("factor"), "original_max_position_embeddings": original}
    if (
        values["factor"] is None
        and isinstance(max_positions, int)
        and isinstance(original, int)
        and original > 0
    ):
        values["factor"] = max_positions / original
    optional = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate")
    return values | {key: inner.get(key) for key in optional if inner.get(key) is not None}


def _token_ids(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


def _dtype(keys: _Keys) -> object:
    value = keys.get("dtype", keys.get("torch_dtype", "float32"))
    return value.removeprefix("torch.") if isinstance(value, str) else value


def _quantization(keys: _Keys) -> dict[str, object] | None:
    inner = keys.inner("quantization_config")
    if not inner.raw:
        return None
    if inner.get("quant_method") != "fp8":
        raise inner.problem(
            "quant_method", inner.get("quant_method"), "'fp8' with 128×128 blocks, or no quantization"
        )
    if inner.get("fmt", "e4m3") != "e4m3":
        raise inner.problem("fmt", inner.get("fmt"), "'e4m3'")
    block = inner.get("weight_block_size")
    if not isinstance(block, list):
        raise inner.problem("weight_block_size", block, "[rows, columns], such as [128, 128]")
    return {"block_shape": tuple(block)}


# Where a field of ModelConfig has another name, or another place, in config.json.
_HF_NAMES = {
    "eos_token_ids": "eos_token_id",
    "indexer_rope_interleaved": "indexer_rope_interleave",
    "quantization.block_shape": "quantization_config.weight_block_size",
    "rope.theta": "rope_theta",
}


def _first_problem(keys: _Keys, fields: Mapping[str, object], error: ValidationError) -> CheckpointError:
    """Turn the first of pydantic's findings into the one sentence that a person gets."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "inconsistent":
        key, expected = str(first["ctx"]["key"]), str(first["ctx"]["expected"])
        got = fields[key]
    else:
        location = [str(part) for part in first["loc"]]
        key, got = ".".join(location), first["input"]
        expected = first["msg"].removeprefix("Input should be ")
    return keys.problem(_hf_name(keys, key), got, expected)


def _hf_name(keys: _Keys, key: str) -> str:
    names = {**_HF_NAMES, "rope": _rope_key(keys)}
    for ours, theirs in names.items():
        if key == ours or key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    return key
