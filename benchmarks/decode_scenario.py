"""What is compared: one model, one byte budget for KV on the device, two modes; and how many requests each can run.

Both modes get the same device bytes. Resident mode spends them on whole sequences. Hierarchical mode spends them on
index keys and residency maps for all that the host pool holds, and on hot buffers. Plain arithmetic, no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.memory_plan import GIB, TokenBytes
from hisparse_engine.models.config import ModelConfig

Mode = Literal["hierarchical", "resident"]
MODES: tuple[Mode, ...] = ("resident", "hierarchical")
MAX_CONCURRENCY = 512
_SLOT_NUMBERS = 8  # bytes a token: the slots of its row and of its index key


class Cell(NamedTuple):
    """One measurement: ``concurrency`` requests that have ``context`` tokens when they begin to decode."""

    mode: Mode
    context: int
    concurrency: int


@dataclass(frozen=True)
class Budget:
    """Bytes for KV: on the device (rows, index keys, residency), the same in both modes; and of the host pool."""

    device_bytes: int
    host_bytes: int

    @classmethod
    def of_gib(cls, device: float, host: float) -> Budget:
        """Return a budget given in GiB."""
        return cls(int(device * GIB), int(host * GIB))


@dataclass(frozen=True)
class Pools:
    """What a mode does with the budget when all requests have one context."""

    sizes: PoolSizes
    requests: int
    """How many run at the same time, each promised all that it may need."""


@dataclass(frozen=True)
class Scenario:
    """A model's layout under a budget. ``new_tokens`` is what a request may generate on top of its context.

    Everything that a coordinator allocates on the device counts against the budget: rows, index keys, tables, and the
    rows of a prompt that hierarchical mode keeps while it computes one. Bytes are of the engine's device tables:

    - a token held: its index keys, 8 for its slots, and in hierarchical mode 4 a group for where it is hot;
    - a slot of the device pool: its rows, and in hierarchical mode 8 a group for what lives there and when it was used;
    - a request in hierarchical mode: 4 for each slot that its buffer may grow to.
    """

    layout: KVLayout
    dtype: str
    budget: Budget
    device_buffer_size: int
    new_tokens: int
    float8_keys: bool = False

    def pools(self, mode: Mode, context: int) -> Pools:
        """Return the pools for requests of ``context``, split as somebody would who knows that they are coming."""
        return self._resident(context) if mode == "resident" else self._hierarchical(context)

    def _resident(self, context: int) -> Pools:
        whole, token = context + self.new_tokens, self.token
        requests = min(
            self.budget.device_bytes // (whole * (token.resident + _SLOT_NUMBERS)), MAX_CONCURRENCY
        )
        sizes = PoolSizes(requests * whole, 0, requests * whole, self.device_buffer_size)
        return Pools(sizes, requests)

    def _hierarchical(self, context: int) -> Pools:
        """Every request beyond what the host pool or the smallest hot buffers allow would be one too many."""
        whole, token, groups = context + self.new_tokens, self.token, self.layout.num_groups
        prompt_rows = 2 * whole * token.kv_rows // self.layout.num_layers
        device = self.budget.device_bytes - prompt_rows
        slot = token.kv_rows + 8 * groups
        held = whole * (token.index_keys + 4 * groups + _SLOT_NUMBERS) + 4 * whole
        hot = min(whole, self.device_buffer_size + 1) * slot
        by_host = self.budget.host_bytes // (whole * token.kv_rows)
        requests = max(0, min(by_host, device // (held + hot), MAX_CONCURRENCY))
        slots = min((device - requests * held) // slot, requests * whole)
        sizes = PoolSizes(slots, requests * whole, requests * whole, self.device_buffer_size)
        return Pools(sizes, requests)

    @property
    def token(self) -> TokenBytes:
        """Bytes of one token's rows and index keys."""
        return TokenBytes.of(self.layout, self.dtype, resident=True, float8_keys=self.float8_keys)


def cells(scenario: Scenario, contexts: Sequence[int], wanted: Sequence[int]) -> Iterator[Cell]:
    """Yield what can run: every wanted concurrency that fits, and the most that fits, for every context and mode."""
    for context in contexts:
        for mode in MODES:
            most = scenario.pools(mode, context).requests
            for concurrency in sorted({*(c for c in wanted if c <= most), most} - {0}):
                yield Cell(mode, context, concurrency)


class Weights(NamedTuple):
    """Bytes of a model's parameters, by what they grow with."""

    fixed: int
    per_dense_layer: int
    per_sparse_layer: int
    per_expert: int

    def total(self, config: ModelConfig) -> int:
        """Bytes of a whole model."""
        sparse = config.mlp_layer_types.count("sparse")
        experts = sparse * config.n_routed_experts * self.per_expert
        dense = config.num_hidden_layers - sparse
        return self.fixed + dense * self.per_dense_layer + sparse * self.per_sparse_layer + experts


def weight_bytes(config: ModelConfig, itemsize: int = 2) -> Weights:
    """Return what a model's parameters take; norms and biases are left out, the indexer is in every layer."""
    c = config
    attention = (
        c.hidden_size * (c.q_lora_rank + c.kv_row_dim)
        + c.q_lora_rank * c.num_attention_heads * c.qk_head_dim
        + c.kv_lora_rank * c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)
        + c.num_attention_heads * c.v_head_dim * c.hidden_size
        + c.q_lora_rank * c.index_n_heads * c.index_head_dim
        + c.hidden_size * (c.index_head_dim + 2 * c.index_n_heads)  # the heads' weights are fp32
    )
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    dense = attention + 3 * c.hidden_size * c.intermediate_size
    sparse = attention + c.n_shared_experts * expert + 2 * c.n_routed_experts * c.hidden_size
    vocabulary = (1 if c.tie_word_embeddings else 2) * c.vocab_size * c.hidden_size
    return Weights(*(itemsize * count for count in (vocabulary, dense, sparse, expert)))


def most_layers(config: ModelConfig, device_bytes: int) -> int:
    """Return how many layers of a model's kind ``device_bytes`` hold: its dense ones first, then sparse ones."""
    weights = weight_bytes(config)
    dense = config.mlp_layer_types.count("dense")
    sparse = weights.per_sparse_layer + config.n_routed_experts * weights.per_expert
    rest = device_bytes - weights.fixed - dense * weights.per_dense_layer
    return dense + max(0, rest // sparse)
