"""The one narrow way from a model to the KV cache: select → (swap in) → attend, for one pass over some tokens."""

from __future__ import annotations

from typing import Protocol

import torch


class AttentionPass(Protocol):
    """One forward pass: a decode batch (one token of each request) or a prefill chunk (many tokens of one)."""

    positions: torch.Tensor
    """int64 ``[tokens]``: each token's place in its sequence."""

    float8_rows: bool
    """Whether KV rows are kept in float8: a model may quantise them itself (``ops.float8_rows``), or leave it to the pass."""

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Store the tokens' index ``key [tokens, dim]`` and return their top-k positions, int64 ``[tokens, k]``.

        ``query [tokens, heads, dim]``, ``weights`` fp32 ``[tokens, heads]``. Padded with -1.
        """

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Store the tokens' KV ``row [tokens, row_dim]``, computed or stored (uint8); attend ``positions``.

        ``query [tokens, heads, row_dim]``; returns latent outputs ``[tokens, heads, kv_lora_rank]``.
        """
