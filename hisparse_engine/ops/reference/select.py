"""Select in plain torch: index keys as they are stored, indexer scores, exact top-k with ties to the smaller position.

Runs on any device; see :class:`hisparse_engine.ops.interface.Operations`. ``take_best`` reads nothing on the host, so
that it can also serve where no kernel does.
"""

from __future__ import annotations

import torch

from hisparse_engine.ops.tables import NONE, IndexKeyRows

FP8_MAX = 448.0
"""Largest finite float8_e4m3fn: a key's largest component is stored as this."""

SMALLEST = 1e-30
"""A key whose largest component is below this is stored as zeros: its scale would lose its precision."""

_BLOCK_FLOATS = 1 << 24  # largest intermediate [tokens, heads, length] in elements: 64 MiB of fp32


def store_index_keys(index: IndexKeyRows, slots: torch.Tensor, keys: torch.Tensor) -> None:
    """See :meth:`Operations.store_index_keys`."""
    real = slots != NONE
    places, keys = slots[real].long(), keys[real]
    if index.scales is None:
        index.keys[places] = keys.to(index.keys.dtype)
        return
    quantised, scales = quantise(keys)
    index.keys.view(torch.uint8)[places] = quantised.view(torch.uint8)
    index.scales[places] = scales


def quantise(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``keys [..., dim]`` as float8_e4m3fn and one fp32 scale a key: the largest component becomes 448.

    Source: DeepSeek-V3.2's inference code, ``act_quant`` with one block, which the head dimension fills. A key of
    zeros (below :data:`SMALLEST`) has scale 1, where that code keeps the largest component from falling below 1e-4.
    """
    keys = keys.float()
    largest = keys.abs().amax(dim=-1)
    # by a tensor: CUDA multiplies by the inverse of a number, which rounds differently
    scales = torch.where(largest >= SMALLEST, largest / torch.full_like(largest, FP8_MAX), 1.0)
    scaled = (keys / scales.unsqueeze(-1)).clamp(-FP8_MAX, FP8_MAX)
    return scaled.to(torch.float8_e4m3fn), scales


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
    """See :meth:`Operations.select`. Scores are left in ``scores`` up to each token's length."""
    first_of_run, shared = 0, starts.tolist()
    seen = lengths.tolist()
    for token in range(1, len(shared) + 1):
        if token < len(shared) and shared[token] == shared[first_of_run]:
            continue  # one request's tokens follow each other: its keys are gathered once
        part, start = slice(first_of_run, token), shared[first_of_run]
        keys = _gather(index, key_slots[start : start + max(seen[part])])
        _score(query[part], weights[part], keys, scores[part])
        first_of_run = token
    take_best(scores, lengths, out)


def _gather(index: IndexKeyRows, slots: torch.Tensor) -> torch.Tensor:
    places = slots.long()
    if index.scales is None:
        return index.keys[places].float()
    keys = index.keys.view(torch.uint8)[places].view(torch.float8_e4m3fn)
    return keys.float() * index.scales[places].unsqueeze(1)


def _score(query: torch.Tensor, weights: torch.Tensor, keys: torch.Tensor, scores: torch.Tensor) -> None:
    """Score ``keys [length, dim]`` for each token, seen or not, into ``scores [tokens, :length]``."""
    if len(keys) == 0:
        return
    block = max(1, _BLOCK_FLOATS // (query.shape[1] * len(keys)))
    for first in range(0, len(query), block):
        part = slice(first, first + block)
        dots = torch.matmul(query[part].float(), keys.T).relu_().mul_(query.shape[-1] ** -0.5)
        scores[part, : len(keys)] = torch.bmm(weights[part].float().unsqueeze(1), dots).squeeze(1)


def take_best(scores: torch.Tensor, lengths: torch.Tensor, out: torch.Tensor) -> None:
    """Write the positions of the ``k`` best of ``scores[t, :lengths[t]]`` to ``out`` int32 ``[T, k]``.

    Ascending, then NONE; of equal scores the smaller position wins; where there are at most ``k``, no score is read.
    """
    width, k = scores.shape[1], out.shape[1]
    out.fill_(NONE)
    if width == 0 or k == 0:
        return
    block = max(1, _BLOCK_FLOATS // width)
    for first in range(0, len(scores), block):
        part = slice(first, first + block)
        _take_best_of_block(scores[part], lengths[part].unsqueeze(1), out[part])


def _take_best_of_block(scores: torch.Tensor, lengths: torch.Tensor, out: torch.Tensor) -> None:
    width, k = scores.shape[1], out.shape[1]
    column = torch.arange(width, device=scores.device)
    seen = column < lengths
    masked = scores.masked_fill(lengths <= k, 0.0).masked_fill_(~seen, float("-inf"))
    least = masked.topk(min(k, width), dim=1, sorted=True).values[:, -1:]
    above, ties = masked > least, masked == least
    room = k - above.sum(dim=1, keepdim=True)
    taken = seen & (above | (ties & (ties.cumsum(dim=1) <= room)))
    place = torch.where(taken, taken.cumsum(dim=1) - 1, k)  # column k is thrown away
    wide = out.new_full((len(out), k + 1), NONE)
    wide.scatter_(1, place, column.int().expand_as(place))
    out.copy_(wide[:, :k])
