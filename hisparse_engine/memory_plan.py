"""What memory is taken for: bytes by tier, capacities out of byte budgets, and how many requests fit at a context.

Pure arithmetic on shapes: no tensor, no torch, no checkpoint. Bytes are bytes and capacities are tokens (one token is
one slot in every layer) unless a name says otherwise; a test holds the figures to what the engine allocates.

With L layers, G index groups, rows of ``row_dim`` and index keys of ``index_dim`` elements of ``itemsize`` bytes, the
cache takes:

=====================  ==================================  =======================================================
what                   bytes a token                       how many tokens
=====================  ==================================  =======================================================
KV rows, host pool     L × row_dim × itemsize, or L × its  host_tokens (pinned main memory; none in resident mode)
KV rows, hot buffers   bytes in float8 (both the same)     device_tokens (resident mode: every row is here)
index keys             G × index_dim × itemsize, or        index_tokens
                       G × (index_dim + 4) in float8
residency, by slot     G × 8 (position 4, last use 4)      device_tokens (none in resident mode)
residency, by token    G × 4 (device slot) + 8 (slots of   up to 2 × index_tokens: a request has a stretch as long as
                       home and index key)                 it may get, also where it shares rows with others
=====================  ==================================  =======================================================

That is what a GPU holds. The reference, which keeps residency in NumPy, takes G × 12 by slot (last use is 8) and G × 4
by token and no more, for each request as it is admitted: planned for index_tokens of them. All but the host pool counts
against the device's budget. Weights and what a step works with come beside the cache (``plan.assemble``).
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
STRETCHES_PER_TOKEN = 2
"""Entries of the device's by-token tables for each token that the index keys have room for."""

_INT32, _INT64, _FP32 = 4, 8, 4


class TokenBytes(NamedTuple):
    """Bytes that one token's slot takes, by what is kept in it."""

    kv_rows: int
    index_keys: int
    residency_slot: int
    residency_token: int
    stretches: int = 1
    """How many ``residency_token`` there may be for one token."""

    @classmethod
    def of(
        cls, layout: KVLayout, dtype: str, *, resident: bool, tables: bool = False, float8_keys: bool = False
    ) -> TokenBytes:
        """Return the bytes for a model's ``layout``; in resident mode no row has to be looked for.

        ``tables``: residency is kept in device tables (``memory.device_tables``), as on a GPU. ``float8_keys``: index
        keys are stored in float8, each with a scale.
        """
        itemsize, mapped = ITEM_BYTES[dtype], 0 if resident else layout.num_groups
        key = layout.index_dim + _FP32 if float8_keys else layout.index_dim * itemsize
        return cls(
            kv_rows=layout.num_layers * layout.row_bytes(itemsize),
            index_keys=layout.num_groups * key,
            residency_slot=mapped * (_INT32 + (_INT32 if tables else _INT64)),
            residency_token=mapped * _INT32 + (2 * _INT32 if tables else 0),
            stretches=STRETCHES_PER_TOKEN if tables else 1,
        )

    @property
    def device_slot(self) -> int:
        """Bytes that one more device token takes."""
        return self.kv_rows + self.residency_slot

    @property
    def device_home(self) -> int:
        """Bytes on the device, at most, of one more token that has its home elsewhere."""
        return self.index_keys + self.stretches * self.residency_token

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
    """One thing that memory is taken for. ``tier`` is ``device`` or ``host``; ``tokens`` is None for what has none.

    ``group`` is ``weights``, ``cache``, ``step`` (what a step works with) or ``reserve``.
    """

    name: str
    tier: str
    num_bytes: int
    tokens: int | None = None
    group: str = "cache"

    @property
    def token_bytes(self) -> int | None:
        """Bytes a token."""
        return self.num_bytes // self.tokens if self.tokens else None

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        by_token = {"tokens": self.tokens, "token_bytes": self.token_bytes}
        return {
            "name": self.name,
            "tier": self.tier,
            "group": self.group,
            **by_token,
            "bytes": self.num_bytes,
        }


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
    table_tokens: int | None = None
    """Entries of the by-token tables; None: one for each token that has an index key."""
    beside: tuple[Part, ...] = ()
    """What the device's memory is taken for besides the cache, weights first."""

    def parts(self) -> Iterator[Part]:
        """Yield what the cache takes."""
        sizes, token = self.sizes, self.token
        entries = sizes.index_tokens if self.table_tokens is None else self.table_tokens
        yield self._part("KV rows" if self.resident else "hot buffers", sizes.device_tokens, token.kv_rows)
        yield self._part("index keys", sizes.index_tokens, token.index_keys)
        if token.residency_slot:
            yield self._part("residency by slot", sizes.device_tokens, token.residency_slot)
        if token.residency_token:
            name = "slots by token" if self.resident else "residency by token"
            yield self._part(name, entries, token.residency_token)
        if not self.resident:
            yield self._part("host pool", sizes.host_tokens, token.kv_rows)._replace(tier="host")

    def _part(self, name: str, tokens: int, token_bytes: int) -> Part:
        return Part(name, "device", tokens * token_bytes, tokens)

    def all_parts(self) -> Iterator[Part]:
        """Yield everything that memory is taken for: weights, cache, what a step works with, reserve; then the host's."""
        cache = list(self.parts())
        yield from (part for part in self.beside if part.group == "weights")
        yield from (part for part in cache if part.tier == "device")
        yield from (part for part in self.beside if part.group != "weights")
        yield from (part for part in cache if part.tier == "host")

    @property
    def device_bytes(self) -> int:
        """Bytes of the cache that count against the device's budget for it."""
        return sum(part.num_bytes for part in self.parts() if part.tier == "device")

    @property
    def all_device_bytes(self) -> int:
        """Bytes of the device's memory in all."""
        return self.device_bytes + sum(part.num_bytes for part in self.beside)

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
        """Return how many would run if the cache's device bytes held every row, and nothing else bounded them."""
        return self.device_bytes // (self.token.resident * context)
