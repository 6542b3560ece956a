"""What a GPU's step works with, besides weights and cache: the buffers that are allocated at start, and estimates.

Buffers are what ``table_coordinator`` and ``decoding.table_decoder`` allocate, to the byte (a test compares them).
What comes and goes within a step, and what CUDA itself takes, is estimated from above and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hisparse_engine.decoding.buckets import PREFILL_BLOCK, bucket_sizes
from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.memory_plan import ITEM_BYTES, STRETCHES_PER_TOKEN, Part
from hisparse_engine.models.config import ModelConfig

_INT32, _INT64, _FP32 = 4, 8, 4
_PARITIES = 2
"""Steps take turns with two sets of buffers for new rows, and two graphs."""
_INPUTS = 3
_COUNTERS_BYTES = 4 + 4 * 8  # the step's number; rows looked up, missed, evicted; nanoseconds of swap-ins
_SAMPLING_BYTES = 64
"""A vocabulary entry when it is sampled with a temperature: fp64 and int64 values that exist together."""
_PROGRAMS_AT_ONCE, _HEADS_A_PROGRAM = 132, 64
"""Attention cuts a token's slots into shares while the device, here an H200, has programs to spare."""
_RESULTS_A_PROGRAM, _OF_TOP_K = 24, 2048
"""The most partial results that its rules leave for each of these, for so large a top-k, over all batch sizes."""
_MOST_SHARES = 64


@dataclass(frozen=True)
class StepShapes:
    """What the sizes of a step's buffers follow from."""

    model: ModelConfig
    layout: KVLayout
    sizes: PoolSizes
    dtype: str
    resident: bool
    max_running: int
    prefill_chunk: int

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]

    @property
    def max_length(self) -> int:
        """Tokens of the longest request that can be admitted."""
        sizes = self.sizes
        home = sizes.device_tokens if self.resident else sizes.host_tokens
        return min(self.model.max_position_embeddings, home, sizes.index_tokens)

    @property
    def table_tokens(self) -> int:
        """Entries of the by-token tables."""
        return min(STRETCHES_PER_TOKEN * self.sizes.index_tokens, self.max_running * self.max_length)


def step_parts(shapes: StepShapes) -> Iterator[Part]:
    """Yield what a step works with on a GPU."""
    scored = max(shapes.max_running, PREFILL_BLOCK)
    yield _part("index scores", _FP32 * scored * shapes.max_length)
    yield _part("request tables", _request_tables(shapes))
    if not shapes.resident:
        row = shapes.layout.row_bytes(shapes.itemsize)
        yield _part("prompt rows of two layers", 2 * shapes.max_length * row)
        yield _part(
            "new rows on their way home", _PARITIES * shapes.layout.num_layers * shapes.max_running * row
        )
        yield _part("swap plans", _swap_plans(shapes))
    yield _part("results of CUDA graphs", _graph_results(shapes))
    yield _part("activations (estimate)", _activations(shapes))
    yield _part("sampling (estimate)", _SAMPLING_BYTES * shapes.max_running * shapes.model.vocab_size)


def _part(name: str, num_bytes: int) -> Part:
    return Part(name, "device", num_bytes, group="step")


def _request_tables(shapes: StepShapes) -> int:
    """Return bytes of where each running request's stretch begins, its last token, its new rows' homes, its hot buffer."""
    rows = shapes.max_running
    both_modes = rows * (_INT64 + _PARITIES * _INT32) + (rows + 1) * _INT64
    if shapes.resident:
        return both_modes
    max_buffer = min(shapes.max_length, shapes.sizes.device_tokens)
    return both_modes + rows * (_INT32 + _INT32 * max_buffer) + _COUNTERS_BYTES


def _swap_plans(shapes: StepShapes) -> int:
    """Return bytes of lists of copies, for two groups in turn, of moves of a shrinking buffer, and each layer's group."""
    groups, entries = shapes.layout.num_groups, shapes.max_running * shapes.model.index_topk
    copies = _INT32 * (2 * 2 * entries + groups + 1)
    moves = _INT32 * (2 * groups * (shapes.sizes.device_buffer_size + 1) + groups)
    return copies + moves + _INT32 * shapes.layout.num_layers


def _graph_results(shapes: StepShapes) -> int:
    """Return bytes of the logits and tokens that each graph leaves, and of its inputs."""
    requests = (1 if shapes.resident else _PARITIES) * sum(bucket_sizes(shapes.max_running))
    logits = shapes.model.vocab_size * shapes.itemsize
    return requests * (logits + _INT64 + _INPUTS * _INT32)


def _activations(shapes: StepShapes) -> int:
    """Return bytes that a layer has at once, for the largest batch (in the graphs' own memory) and a prompt chunk."""
    m = shapes.model
    hidden = 8 * m.hidden_size
    attention = m.num_attention_heads * (m.qk_head_dim + m.kv_lora_rank + m.kv_row_dim + m.qk_rope_head_dim)
    dense = 3 * m.intermediate_size
    experts = m.num_experts_per_tok * (m.hidden_size + 3 * m.moe_intermediate_size)
    tokens = shapes.max_running + shapes.prefill_chunk
    largest = max(shapes.max_running, shapes.prefill_chunk)
    return tokens * (hidden + max(attention, dense, experts)) * shapes.itemsize + attention_shares(
        m.num_attention_heads, m.kv_lora_rank, m.index_topk, largest
    )


def attention_shares(heads: int, latent_dim: int, top_k: int, tokens: int) -> int:
    """Return bytes of fp32 partial results, and their sums, that attention leaves at most for up to ``tokens`` tokens."""
    at_once = _PROGRAMS_AT_ONCE * _HEADS_A_PROGRAM * _RESULTS_A_PROGRAM * -(-top_k // _OF_TOP_K)
    return _FP32 * (latent_dim + 1) * min(tokens * heads * _MOST_SHARES, at_once)
