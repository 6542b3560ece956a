"""Memory budgets → capacities in tokens, for one model's shapes.

The rule: the host pool takes all of ``host_memory_gib``. Of ``device_memory_gib`` the index keys (and residency maps)
of every token that the host pool can hold go first, hot buffers get the rest. When nothing says how large the host
pool is, it is eight times the device pool. In resident mode a token takes its KV rows and index keys together.
"""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_engine.config import MAX_TOKENS, HiSparseConfig
from hisparse_engine.memory_plan import (
    GIB,
    HOST_TO_DEVICE_RATIO,
    TokenBytes,
    device_tokens_in,
    host_tokens_in,
)
from hisparse_engine.settings.given import Problem
from hisparse_engine.settings.models import TierSettings


def contradictions(tiers: TierSettings) -> Iterator[Problem]:
    """Yield what is given twice."""
    for tokens, gib in (("device_tokens", "device_memory_gib"), ("host_tokens", "host_memory_gib")):
        if getattr(tiers, tokens) is not None and getattr(tiers, gib) is not None:
            yield Problem(
                ("hisparse", gib), f"is given beside hisparse.{tokens}, and both say one thing; remove one"
            )


def fill(
    tiers: TierSettings, token: TokenBytes, *, resident: bool, least_buffer: int
) -> HiSparseConfig | Problem:
    """Return the tiers with tokens in place of budgets. ``least_buffer`` is the smallest hot buffer that there can be.

    Sizes that no budget decides stay as they are, open ones included.
    """
    host, device, index = tiers.host_tokens, tiers.device_tokens, tiers.index_tokens
    if tiers.host_memory_gib is not None and not resident:
        host = host_tokens_in(in_bytes(tiers.host_memory_gib), token)
        if not host:
            return _too_small("host_memory_gib", tiers.host_memory_gib, token.kv_rows, "one token's KV rows")
    if tiers.device_memory_gib is not None:
        ratio = 1 if resident else HOST_TO_DEVICE_RATIO
        held = index if resident or index is not None else host
        device = device_tokens_in(
            in_bytes(tiers.device_memory_gib), token, held_tokens=held, held_per_device=ratio
        )
        least = 1 if resident else (tiers.device_buffer_size or least_buffer) + 1
        if device < least:
            tokens = ratio * least if held is None else held
            needed = least * token.device_slot + tokens * token.device_home
            what = "one token" if resident else f"one hot buffer of {least} tokens"
            return _too_small(
                "device_memory_gib",
                tiers.device_memory_gib,
                needed,
                f"{what} beside the index keys of {tokens} tokens",
            )
        if not resident and host is None:
            host = HOST_TO_DEVICE_RATIO * device
    if (most := max(host or 0, device or 0)) > MAX_TOKENS:
        name = (
            "host_memory_gib" if tiers.host_memory_gib is not None and most == host else "device_memory_gib"
        )
        return Problem(
            ("hisparse", name), f"comes to {most} tokens, and a pool has {MAX_TOKENS} at most; lower it"
        )
    return HiSparseConfig(
        device_buffer_size=tiers.device_buffer_size,
        device_tokens=device,
        host_tokens=host,
        index_tokens=index,
    )


def in_bytes(gib: float) -> int:
    """Return a budget in whole bytes."""
    return int(gib * GIB)


def _too_small(name: str, given: float, needed: int, what: str) -> Problem:
    least = -(-needed * 1000 // GIB) / 1000  # rounded up, so that the remedy does
    remedy = f"set {least:g} or more" + (", or a smaller host pool" if name.startswith("device") else "")
    return Problem(
        ("hisparse", name), f"got {given:g}, which is too little for {what} ({needed} bytes); {remedy}"
    )
