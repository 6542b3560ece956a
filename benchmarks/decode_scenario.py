"""What is compared: one model, one byte budget for KV on the device, two modes; and how many requests each can run.

Both modes get the same device bytes. Resident mode spends them on whole sequences. Hierarchical mode spends them on
index keys and residency maps for all that the host pool holds, and on hot buffers. Plain arithmetic, no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.memory_plan import GIB, MemoryPlan, TokenBytes, device_tokens_in, host_tokens_in
from hisparse_engine.models.config import ModelConfig

Mode = Literal["hierarchical", "resident"]
MODES: tuple[Mode, ...] = ("resident", "hierarchical")
MAX_CONCURRENCY = 512


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
class Scenario:
    """A model's layout under a budget. ``new_tokens`` is what a request may generate on top of its context."""

    layout: KVLayout
    dtype: str
    budget: Budget
    device_buffer_size: int
    new_tokens: int

    def token(self, mode: Mode) -> TokenBytes:
        """Bytes of one token in ``mode``."""
        return TokenBytes.of(self.layout, self.dtype, resident=mode == "resident")

    def sizes(self, mode: Mode, context: int) -> PoolSizes:
        """Return the pools for requests of ``context``, split as somebody would who knows that they are coming."""
        if mode == "resident":
            tokens = self.budget.device_bytes // self.token(mode).resident
            return PoolSizes(tokens, 0, tokens, self.device_buffer_size)
        held = self._held(context)
        device = device_tokens_in(self.budget.device_bytes, self.token(mode), held_tokens=held)
        return PoolSizes(device, held, held, self.device_buffer_size)

    def plan(self, mode: Mode, context: int) -> MemoryPlan:
        """Return the same pools as a plan, which can tell bytes and concurrency."""
        return MemoryPlan(self.sizes(mode, context), self.token(mode), mode == "resident", MAX_CONCURRENCY)

    def concurrency(self, mode: Mode, context: int) -> int:
        """Return how many requests of ``context`` run at the same time, each promised all that it may need."""
        return self.plan(mode, context).concurrency(context + self.new_tokens)

    def _held(self, context: int) -> int:
        """Return how many tokens the host pool is to hold: what its bytes allow, and hot buffers can be had for.

        Every token held takes device bytes for its index keys; beyond a point more of them would leave their requests
        no hot buffer.
        """
        token, whole = self.token("hierarchical"), context + self.new_tokens
        hot = min(whole, self.device_buffer_size + 1) * token.device_slot
        requests = self.budget.device_bytes // (whole * token.device_home + hot)
        most = min(requests, MAX_CONCURRENCY) * whole
        return min(host_tokens_in(self.budget.host_bytes, token), most)


def cells(scenario: Scenario, contexts: Sequence[int], wanted: Sequence[int]) -> Iterator[Cell]:
    """Yield what can run: every wanted concurrency that fits, and the most that fits, for every context and mode."""
    for context in contexts:
        for mode in MODES:
            most = scenario.concurrency(mode, context)
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
