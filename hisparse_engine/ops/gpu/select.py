"""``store_index_keys`` and ``select`` on a CUDA device: which kernels, which tiles and how many programs, by fixed rules.

The rules see shapes, types and the device's size only: everything may be captured in a CUDA graph and replayed with
other lengths. See :class:`hisparse_engine.ops.interface.Operations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.select_kernels import score_positions, store_keys
from hisparse_engine.ops.gpu.topk import take_best
from hisparse_engine.ops.reference.select import FP8_MAX, SMALLEST
from hisparse_engine.ops.tables import IndexKeyRows

_SMALLEST_DOT = 16  # what tl.dot takes in every dimension
_KEYS_A_STORE = 16
_TOKEN_BLOCKS = (16, 256)  # few sizes, for each is compiled
FP8_DOT = tl.float8e4nv
_CPU_PROCESSORS = 3  # under Triton's interpreter


@dataclass(frozen=True)
class Tiling:
    """How the scoring is cut up."""

    group: int
    """Tokens that share a tile of keys."""
    positions: int
    num_warps: int
    num_stages: int
    per_processor: int
    """Programs that a multiprocessor runs at once."""
    registers: int | None = None
    """The most that a thread may have, where ``per_processor`` programs need a bound."""


DECODE, DECODE_FP8, DECODE_FP8_FEW_HEADS = (
    Tiling(1, 128, 4, 3, 2),
    Tiling(1, 128, 4, 3, 3),
    Tiling(1, 256, 8, 3, 2),
)
CHUNK, CHUNK_FP8 = Tiling(4, 128, 8, 3, 1), Tiling(4, 128, 8, 4, 1)
FP32 = Tiling(1, 32, 8, 2, 2)


def store_index_keys(index: IndexKeyRows, slots: torch.Tensor, keys: torch.Tensor) -> None:
    """See :meth:`Operations.store_index_keys`."""
    tokens, dim = keys.shape
    if tokens == 0:
        return
    keys = keys if keys.stride(1) == 1 else keys.contiguous()
    store_keys[(triton.cdiv(tokens, _KEYS_A_STORE),)](
        slots,
        keys,
        index.keys,
        index.scales if index.scales is not None else slots,
        tokens,
        keys.stride(0),
        DIM=dim,
        BLOCK_T=_KEYS_A_STORE,
        BLOCK_D=triton.next_power_of_2(dim),
        HAS_SCALES=index.scales is not None,
        LARGEST=FP8_MAX,
        SMALLEST=SMALLEST,
    )


def select(
    query: torch.Tensor,
    weights: torch.Tensor,
    index: IndexKeyRows,
    key_slots: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    scores: torch.Tensor,
) -> None:
    """See :meth:`Operations.select`. Scores are left in ``scores`` for tokens with more than ``k`` positions.

    Tokens of one request share the work of loading its keys where the host can see that they are of one: where
    ``starts`` is one element expanded (``start.expand(T)``).
    """
    if len(query) == 0 or out.shape[1] == 0:
        return
    score_tokens(query, weights, index, key_slots, starts, lengths, out.shape[1], scores)
    take_best(scores, lengths, out)


def score_tokens(
    query: torch.Tensor,
    weights: torch.Tensor,
    index: IndexKeyRows,
    key_slots: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    k: int,
    scores: torch.Tensor,
    tiling: Tiling | None = None,
) -> None:
    """Write the scores of every token with more than ``k`` positions."""
    tokens, heads, dim = query.shape
    tiling = tiling or choose_tiling(query, index, starts)
    has_scales = index.scales is not None
    dot = _dot_type(query.dtype, index.keys.dtype, dim)
    score_positions[(tiling.per_processor * _processors(query.device),)](
        query.contiguous(),
        weights.contiguous(),
        index.keys,
        index.scales if has_scales else weights,
        key_slots,
        starts if tiling.group > 1 else starts.contiguous(),
        lengths,
        scores,
        tokens,
        k,
        scores.stride(0),
        HEADS=heads,
        DIM=dim,
        GROUP=tiling.group,
        BLOCK_T=next((size for size in _TOKEN_BLOCKS if tokens <= size), triton.next_power_of_2(tokens)),
        BLOCK_N=tiling.positions,
        BLOCK_H=max(_SMALLEST_DOT, triton.next_power_of_2(heads)),
        BLOCK_D=max(_SMALLEST_DOT, triton.next_power_of_2(dim)),
        HAS_SCALES=has_scales,
        SPLIT=dot == FP8_DOT,
        DOT=dot,
        STAGES=tiling.num_stages,
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        maxnreg=tiling.registers,
    )


def _dot_type(query: torch.dtype, keys: torch.dtype, dim: int) -> tl.dtype:
    """Return what products are taken in; fp8 needs 32 components at least, and has no mask for them."""
    if keys == torch.float8_e4m3fn and query == torch.bfloat16 and dim in (32, 64, 128, 256):
        return FP8_DOT
    if query != keys:
        return tl.float32
    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(keys, tl.float32)


def choose_tiling(query: torch.Tensor, index: IndexKeyRows, starts: torch.Tensor) -> Tiling:
    """Return the tiles for these types: enough bytes in flight on every multiprocessor, whatever the lengths are."""
    if _dot_type(query.dtype, index.keys.dtype, query.shape[2]) == tl.float32:
        return FP32
    if len(starts) > 1 and starts.stride(0) == 0:
        return CHUNK if index.scales is None else CHUNK_FP8
    if index.scales is None:
        return DECODE
    return DECODE_FP8 if query.shape[1] > 32 else DECODE_FP8_FEW_HEADS


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
