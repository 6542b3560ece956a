"""A tiny checkpoint that can chat: weights written by transformers, a byte-level tokenizer, a chat template."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.support.models import write_checkpoint

VOCABULARY = 320
POSITIONS = 4096
SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_TEXT = (
    "the token of the pool and the row of the host in the buffer of the device, all in the order of the step "
)


def write_chat_checkpoint(folder: Path) -> Path:
    """Write the checkpoint; its end-of-sequence token is 0, which a greedy answer here does not meet by chance."""
    write_checkpoint(
        folder,
        "GlmMoeDsaForCausalLM",
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        eos_token_id=0,
        pad_token_id=0,
    )
    byte_tokenizer(VOCABULARY).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[0],
        "additional_special_tokens": list(SPECIAL[1:]),
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def byte_tokenizer(size: int = VOCABULARY) -> Tokenizer:
    """Return a byte-level BPE of ``size`` tokens: the special ones, all bytes, then frequent pieces."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([_TEXT * 3, "größe façade naïve 漢字 🙂 " * 3], trainer)
    return backend
