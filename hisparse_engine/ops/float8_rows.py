"""The shape of a KV row in float8: plain numbers, for whoever allocates, plans, writes or reads one. Needs no torch.

A row is its latent in e4m3, an fp32 scale for every group of its numbers, and its rope key in bf16, filled up with
zeros to what kernels copy at once. Source: DeepSeek-V3.2's cache, 656 bytes for 512 + 64.
"""

from __future__ import annotations

SCALE_GROUP = 128
"""Numbers of a latent that share a scale."""

_ALIGNMENT = 16
_SCALE_BYTES, _ROPE_ITEM_BYTES = 4, 2


def packed_bytes(latent_dim: int, rope_dim: int) -> int:
    """Return the bytes of a row that mean something."""
    return latent_dim + latent_dim // SCALE_GROUP * _SCALE_BYTES + rope_dim * _ROPE_ITEM_BYTES


def row_bytes(latent_dim: int, rope_dim: int) -> int:
    """Return the bytes of a row as it is stored: a multiple of 16."""
    return -(-packed_bytes(latent_dim, rope_dim) // _ALIGNMENT) * _ALIGNMENT
