"""Log-probabilities in the two shapes of OpenAI's API. Tokens that are no text on their own are shown as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hisparse_engine.server.choice import ShownToken
from hisparse_engine.tokenizer import Tokenizer


def completion_logprobs(tokens: Sequence[ShownToken], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return parallel lists, as ``/v1/completions`` has them."""
    known = [(token, token.logprobs) for token in tokens if token.logprobs is not None]
    return {
        "tokens": [_name(token.id, tokenizer) for token, _ in known],
        "token_logprobs": [chosen for _, (chosen, _, _) in known],
        "top_logprobs": [
            {_name(top, tokenizer): value for top, value in zip(ids, values, strict=True)}
            for _, (_, ids, values) in known
        ],
        "text_offset": [token.offset for token, _ in known],
    }


def chat_logprobs(tokens: Sequence[ShownToken], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return one object a token, as ``/v1/chat/completions`` has them."""
    content = []
    for token in tokens:
        if token.logprobs is not None:
            chosen, ids, values = token.logprobs
            top = [_entry(one, value, tokenizer) for one, value in zip(ids, values, strict=True)]
            content.append({**_entry(token.id, chosen, tokenizer), "top_logprobs": top})
    return {"content": content, "refusal": None}


def _entry(token: int, logprob: float, tokenizer: Tokenizer | None) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token) if tokenizer is not None else None
    return {
        "token": _name(token, tokenizer), "logprob": logprob, "bytes": None if raw is None else list(raw)
    }  # fmt: skip


def _name(token: int, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return f"token_id:{token}"
    raw = tokenizer.token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
