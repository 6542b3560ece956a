"""Parameters of OpenAI's API that need no code here: those that change nothing, and those that are refused.

A parameter that would change the output and is not implemented is never ignored; a misspelt one neither.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from hisparse_engine.server.errors import ApiError, bad_request

HARMLESS = frozenset(
    {
        "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "service_tier", "store", "user",
    }
)  # fmt: skip
"""Taken and ignored: they say something about the client, or about how to bill and speed up, not what to generate."""

NEUTRAL: Mapping[str, Collection[Any]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (-1, 0),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Not implemented: accepted with the values that change nothing (``null`` always is), refused with any other."""


def check_parameters(body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return what of ``body`` is in ``known``; :class:`ApiError` for what is neither there nor without effect."""
    for name, value in body.items():
        if name in known or name in HARMLESS:
            continue
        if name not in NEUTRAL:
            raise _unknown(name, known)
        if value is not None and not _is_neutral(value, NEUTRAL[name]):
            raise _unsupported(name)
    return {name: value for name, value in body.items() if name in known}


def _is_neutral(value: Any, neutral: Collection[Any]) -> bool:
    """Compare as JSON does: ``true`` is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def _unsupported(name: str) -> ApiError:
    allowed = [repr(value) for value in NEUTRAL[name]]
    remedy = f"leave it out, or send {' or '.join(allowed)}" if allowed else "leave it out"
    return bad_request(
        f"{name}: not supported by this server; {remedy}", param=name, code="unsupported_parameter"
    )


def _unknown(name: str, known: Collection[str]) -> ApiError:
    close = difflib.get_close_matches(name, [*known, *HARMLESS, *NEUTRAL], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return bad_request(f"{name[:100]}: no such parameter{hint}", param=name[:100], code="unknown_parameter")
