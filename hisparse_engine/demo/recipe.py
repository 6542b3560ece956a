"""What the demo's checkpoint consists of: a GLM-5-style config, seeded weights, and a tokenizer trained on the spot.

Pure functions of the seed and the text; where the files go is ``checkpoint``'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 20261122
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")  # tokens 1, 2, 3
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|{{ message.role }}|>
{{ message.content }}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>
{% endif -%}
"""

CONFIG: dict[str, Any] = {
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "dtype": "bfloat16",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "q_lora_rank": 128,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "index_topk": 128,
    "index_head_dim": 32,
    "index_n_heads": 16,  # with fewer, scores tie at 0 so often that a prompt's length decides what is selected
    "indexer_types": ["full", "full", "shared", "shared", "full", "shared"],
    "first_k_dense_replace": 1,
    "mlp_layer_types": ["dense"] + ["sparse"] * 5,
    "moe_intermediate_size": 64,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "bos_token_id": None,
    "eos_token_id": END_OF_TEXT_ID,
    "pad_token_id": END_OF_TEXT_ID,
}

GENERATION_CONFIG: dict[str, Any] = {"eos_token_id": END_OF_TEXT_ID, "pad_token_id": END_OF_TEXT_ID}

TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": CONFIG["max_position_embeddings"],
    "eos_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
    "additional_special_tokens": list(ROLES),
    "clean_up_tokenization_spaces": False,
    "chat_template": CHAT_TEMPLATE,
}


COMMON_DIRECTION = 2.0
"""What all embeddings share, in standard deviations of what tells them apart."""


def train_tokenizer(text: str) -> str:
    """Train a byte-level BPE of ``vocab_size`` tokens on ``text``; return its ``tokenizer.json``."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END_OF_TEXT, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(text.split("\n\n"), trainer)
    return backend.to_str(pretty=False)


def make_weights() -> dict[str, torch.Tensor]:
    """Make every tensor of the model: matrices of unit gain, so that no layer drowns another; float32 router biases.

    numpy's generator, not torch's: its stream is the same on every CPU.
    """
    generator = np.random.default_rng(SEED)
    weights = {name: _draw(generator, name, shape) for name, shape in _shapes()}
    # Hidden states of trained models share a strong common direction, so that one step's selection resembles the
    # last one's; without it random weights would select at random and nothing would ever be hot.
    common = generator.standard_normal(CONFIG["hidden_size"], dtype=np.float32)
    weights["model.embed_tokens.weight"] += (COMMON_DIRECTION * torch.from_numpy(common)).bfloat16()
    # No end of text and no change of roles by chance: their logits are 0, and the largest of 4096 is not.
    weights["lm_head.weight"][: 1 + len(ROLES)] = 0
    return weights


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    if name.endswith("e_score_correction_bias"):
        return values * 0.05
    if len(shape) == 1:
        return (values * 0.1 + name.endswith("weight")).bfloat16()  # norms: weights near 1, biases near 0
    gain = 1.0 if name == "model.embed_tokens.weight" else shape[-1] ** -0.5
    return (values * (2.0 if name == "lm_head.weight" else 1.0) * gain).bfloat16()


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    c = CONFIG
    yield "model.embed_tokens.weight", (c["vocab_size"], c["hidden_size"])
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, shape in (*_attention_shapes(), *_indexer_shapes(layer), *_mlp_shapes(layer)):
            yield prefix + name, shape
    yield "model.norm.weight", (c["hidden_size"],)
    yield "lm_head.weight", (c["vocab_size"], c["hidden_size"])


def _attention_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    c = CONFIG
    heads, hidden, nope, rope = (
        c[k] for k in ("num_attention_heads", "hidden_size", "qk_nope_head_dim", "qk_rope_head_dim")
    )
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    yield "self_attn.q_a_proj.weight", (c["q_lora_rank"], hidden)
    yield "self_attn.q_a_layernorm.weight", (c["q_lora_rank"],)
    yield "self_attn.q_b_proj.weight", (heads * (nope + rope), c["q_lora_rank"])
    yield "self_attn.kv_a_proj_with_mqa.weight", (c["kv_lora_rank"] + rope, hidden)
    yield "self_attn.kv_a_layernorm.weight", (c["kv_lora_rank"],)
    yield "self_attn.kv_b_proj.weight", (heads * (nope + c["v_head_dim"]), c["kv_lora_rank"])
    yield "self_attn.o_proj.weight", (hidden, heads * c["v_head_dim"])


def _indexer_shapes(layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    c = CONFIG
    if c["indexer_types"][layer] == "full":
        yield "self_attn.indexer.wq_b.weight", (c["index_n_heads"] * c["index_head_dim"], c["q_lora_rank"])
        yield "self_attn.indexer.wk.weight", (c["index_head_dim"], c["hidden_size"])
        yield "self_attn.indexer.k_norm.weight", (c["index_head_dim"],)
        yield "self_attn.indexer.k_norm.bias", (c["index_head_dim"],)
        yield "self_attn.indexer.weights_proj.weight", (c["index_n_heads"], c["hidden_size"])


def _mlp_shapes(layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    c = CONFIG
    if c["mlp_layer_types"][layer] == "dense":
        yield from _gated_shapes("mlp.", c["intermediate_size"])
        return
    yield "mlp.gate.weight", (c["n_routed_experts"], c["hidden_size"])
    yield "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],)
    for expert in range(c["n_routed_experts"]):
        yield from _gated_shapes(f"mlp.experts.{expert}.", c["moe_intermediate_size"])
    yield from _gated_shapes("mlp.shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"])


def _gated_shapes(prefix: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = CONFIG["hidden_size"]
    yield f"{prefix}gate_proj.weight", (width, hidden)
    yield f"{prefix}up_proj.weight", (width, hidden)
    yield f"{prefix}down_proj.weight", (hidden, width)
