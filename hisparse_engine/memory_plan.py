"""What the KV cache takes: bytes by tier, capacities out of byte budgets, and how many requests fit at a context.

Pure arithmetic on shapes: no tensor, no torch, no checkpoint. Bytes are bytes and capacities are tokens (one token is
one slot in every layer) unless a name says otherwise; a test holds the figures to what the engine allocates.

With L layers, G index groups, rows of ``row_dim`` and index keys of ``index_dim`` elements of ``itemsize`` bytes:

=====================  ==================================  =======================================================
what                   bytes a token                       how many tokens
=====================  ==================================  =======================================================
KV rows, host pool     L × row_dim × itemsize              host_tokens (pinned main memory; none in resident mode)
KV rows, hot buffers   L × row_dim × itemsize              device_tokens (resident mode: every row is here)
index keys             G × index_dim × itemsize            index_tokens
residency, by slot     G × 12 (position 4, last use 8)     device_tokens (none in resident mode)
residency, by token    G × 4 (device slot)                 index_tokens (none in resident mode)
=====================  ==================================  =======================================================

All but the host pool counts against the device's budget. The residency maps do so although the reference on the CPU
keeps them in main memory: where the budget is scarce they are on the device. By token they are made for each request
as it is admitted, so requests that share a prefix take somewhat more than is planned here, each having its own map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hisparse_engine.layout import KVLayout, PoolSizes

GIB = 1 << 30
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
"""Bytes of one element of a dtype that ``engine.dtype`` may name."""
HOST_TO_DEVICE_RATIO = 8
"""Host pool size as a multiple of the device pool's, when neither tokens nor bytes say more (SGLang's default)."""

_POSITION_BYTES = 4
_LAST_USE_BYTES = 8
_SLOT_BYTES = 4


class TokenBytes(NamedTuple):
    """Bytes that one token's slot takes, by what is kept in it."""

    kv_rows: int
    index_keys: int
    residency_slot: int
    residency_token: int

    @classmethod
    def of(cls, layout: KVLayout, dtype: str, *, resident: bool) -> TokenBytes:
        """Return the bytes for a model's ``layout``; in resident mode nothing has to be looked up."""
        itemsize, mapped = ITEM_BYTES[dtype], 0 if resident else layout.num_groups
        return cls(
            kv_rows=layout.num_layers * layout.row_dim * itemsize,
            index_keys=layout.num_groups * layout.index_dim * itemsize,
            residency_slot=mapped * (_POSITION_BYTES + _LAST_USE_BYTES),
            residency_token=mapped * _SLOT_BYTES,
        )

    @property
    def device_slot(self) -> int:
        """Bytes that one more device token takes."""
        return self.kv_rows + self.residency_slot

    @property
    def device_home(self) -> int:
        """Bytes on the device of one more token that has its home elsewhere."""
        return self.index_keys + self.residency_token

    @property
    def resident(self) -> int:
        """Bytes that a token takes on the device when all of it is there."""
        return self.kv_rows + self.index_keys


def host_tokens_in(budget: int, token: TokenBytes) -> int:
    """Return the largest host pool of at most ``budget`` bytes."""
    return budget // token.kv_rows


def device_tokens_in(
    budget: int, token: TokenBytes, *, held_tokens: int | None, held_per_device: int = HOST_TO_DEVICE_RATIO
) -> int:
    """Return the largest device pool that ``budget`` bytes hold beside what belongs to the tokens held; may be < 1.

    First come the index keys (and residency maps by token) of ``held_tokens``, the rest is device slots. Where nobody
    has said how many tokens are held (None), ``held_per_device`` of them come with every device token.
    """
    if held_tokens is None:
        return budget // (token.device_slot + held_per_device * token.device_home)
    return (budget - held_tokens * token.device_home) // token.device_slot


class Part(NamedTuple):
    """One thing that memory is taken for. ``tier`` is ``device`` or ``host``; ``num_bytes = tokens × token_bytes``."""

    name: str
    tier: str
    tokens: int
    token_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes in all."""
        return self.tokens * self.token_bytes


class Need(NamedTuple):
    """What one request takes of one resource; ``setting`` is the path of the setting that gives more of it."""

    resource: str
    setting: str
    needed: int
    capacity: int

    @property
    def requests(self) -> int:
        """How many such requests the resource holds at the same time."""
        return self.capacity // self.needed


@dataclass(frozen=True)
class MemoryPlan:
    """The resolved capacities and what they take. ``max_running_requests`` bounds requests whatever memory says."""

    sizes: PoolSizes
    token: TokenBytes
    resident: bool
    max_running_requests: int

    def parts(self) -> Iterator[Part]:
        """Yield everything that memory is taken for."""
        sizes, token = self.sizes, self.token
        rows = "KV rows" if self.resident else "hot buffers"
        yield Part(rows, "device", sizes.device_tokens, token.kv_rows)
        yield Part("index keys", "device", sizes.index_tokens, token.index_keys)
        if not self.resident:
            yield Part("residency by slot", "device", sizes.device_tokens, token.residency_slot)
            yield Part("residency by token", "device", sizes.index_tokens, token.residency_token)
            yield Part("host pool", "host", sizes.host_tokens, token.kv_rows)

    @property
    def device_bytes(self) -> int:
        """Bytes that count against the device's budget."""
        return sum(part.num_bytes for part in self.parts() if part.tier == "device")

    @property
    def host_bytes(self) -> int:
        """Bytes of the host pool."""
        return sum(part.num_bytes for part in self.parts() if part.tier == "host")

    def needs(self, context: int) -> Iterator[Need]:
        """Yield what a request of ``context`` tokens (prompt and answer) takes; the scarcest goes first."""
        yield from sorted(self._needs(context), key=lambda need: need.requests)

    def _needs(self, context: int) -> Iterator[Need]:
        sizes = self.sizes
        if not self.resident:
            hot = min(context, sizes.device_buffer_size + 1)  # + 1: the newest token's slot
            yield Need("host pool", "hisparse.host_tokens", context, sizes.host_tokens)
            yield Need("device pool", "hisparse.device_tokens", hot, sizes.device_tokens)
        else:
            yield Need("device pool", "hisparse.device_tokens", context, sizes.device_tokens)
        yield Need("index keys", "hisparse.index_tokens", context, sizes.index_tokens)
        yield Need("running requests", "engine.max_running_requests", 1, self.max_running_requests)

    def concurrency(self, context: int) -> int:
        """Return how many requests of ``context`` tokens run at the same time when each is promised its worst case."""
        return next(self.needs(context)).requests

    def resident_concurrency(self, context: int) -> int:
        """Return how many would run if the same device bytes held every row, and nothing else bounded them."""
        return self.device_bytes // (self.token.resident * context)
