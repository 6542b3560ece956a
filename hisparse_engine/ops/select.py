"""Select: lightning-indexer scores over index keys, and the top-k positions.

Source: DeepSeek-V3.2 (DeepSeek Sparse Attention), section 2.1: I(t, s) = Σ_h w_h · relu(q_h · k_s), scaled by
head_dim^-0.5 · num_heads^-0.5. The Hadamard rotation and fp8 of the release change precision, not the score.
"""

from __future__ import annotations

import torch

MASKED = -1  # in a positions tensor: no position here (fewer candidates than top-k)

_QUERY_BLOCK_FLOATS = 1 << 24  # largest intermediate [block, heads, length] in elements: 64 MiB of fp32


def index_scores(query: torch.Tensor, weights: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Score ``keys [length, dim]`` for ``query [tokens, heads, dim]`` with ``weights [tokens, heads]``.

    ``weights`` carry all scaling but head_dim^-0.5. Returns fp32 ``[tokens, length]``.
    """
    dots = torch.matmul(query.float(), keys.float().T).mul_(query.shape[-1] ** -0.5).relu_()
    return torch.bmm(weights.float().unsqueeze(1), dots).squeeze(1)


def top_positions(scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """Return the ``min(top_k, width)`` best columns of ``scores [tokens, width]`` as int64 ``[tokens, k]``.

    Columns scored -inf are not candidates and come back as :data:`MASKED`. Order within a row is unspecified. Equal
    scores are common with few indexer heads (relu makes zeros); which of them win is ``torch.topk``'s choice, a
    function of the row and its width. Callers therefore keep the width of the reference implementation: the prompt's
    length for prompt tokens, the token's own for generated ones.
    """
    best = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    return best.indices.masked_fill_(best.values == float("-inf"), MASKED)


def select_decode(
    query: torch.Tensor, weights: torch.Tensor, keys: list[torch.Tensor], top_k: int
) -> torch.Tensor:
    """Select for one new token of each of ``len(keys)`` requests, over ragged ``keys[i] [length_i, dim]``.

    Returns int64 positions ``[batch, min(top_k, max length)]``, padded with :data:`MASKED`.
    """
    longest = max(len(request_keys) for request_keys in keys)
    positions = torch.full((len(keys), min(top_k, longest)), MASKED, device=query.device)
    for i, request_keys in enumerate(keys):
        chosen = top_positions(index_scores(query[i : i + 1], weights[i : i + 1], request_keys), top_k)
        positions[i, : chosen.shape[1]] = chosen[0]
    return positions


def select_prefill(
    query: torch.Tensor,
    weights: torch.Tensor,
    keys: torch.Tensor,
    first_position: int,
    top_k: int,
    width: int,
) -> torch.Tensor:
    """Select for a chunk: token ``i`` (at ``first_position + i``) sees ``keys[: first_position + i + 1]``.

    ``width`` is the prompt's length: that many columns compete for a prompt's token, those without a key at -inf; for
    a token generated after it, its own length, as in :func:`select_decode`. Returns int64 positions
    ``[tokens, min(top_k, longest)]``, padded with :data:`MASKED`.
    """
    longest = max(width, first_position + len(query))
    selected = torch.full((len(query), min(top_k, longest)), MASKED, device=keys.device)
    num_prompt = min(max(width - first_position, 0), len(query))
    block = max(1, _QUERY_BLOCK_FLOATS // (query.shape[1] * len(keys)))
    for start in range(0, num_prompt, block):
        part = slice(start, min(start + block, num_prompt))
        chosen = _select_block(query[part], weights[part], keys, first_position + start, top_k, width)
        selected[part, : chosen.shape[1]] = chosen
    for i in range(num_prompt, len(query)):
        seen = keys[: first_position + i + 1]
        chosen = top_positions(index_scores(query[i : i + 1], weights[i : i + 1], seen), top_k)
        selected[i, : chosen.shape[1]] = chosen[0]
    return selected


def _select_block(
    query: torch.Tensor,
    weights: torch.Tensor,
    keys: torch.Tensor,
    first_position: int,
    top_k: int,
    width: int,
) -> torch.Tensor:
    position = torch.arange(len(query), device=keys.device) + first_position
    column = torch.arange(len(keys), device=keys.device)
    scores = query.new_full((len(query), max(width, len(keys))), float("-inf"), dtype=torch.float32)
    scores[:, : len(keys)] = index_scores(query, weights, keys)
    scores[:, : len(keys)].masked_fill_(column > position.unsqueeze(1), float("-inf"))
    return top_positions(scores[:, :width], top_k)
