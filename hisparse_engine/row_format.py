"""How KV rows are kept in the pools of both tiers: as the model computes them, or in float8. One way for one engine.

Pools, copies and residency see rows of bytes and know nothing of it; whoever writes or attends rows asks here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.layout import KVLayout
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.ops.float8_rows import packed_bytes, row_bytes
from hisparse_engine.ops.reference.attention import dequantise_rows, quantise_rows


class RowFormat(Protocol):
    """One way of keeping rows."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the pools."""

    @property
    def is_float8(self) -> bool:
        """Whether rows are quantised."""

    def store(self, rows: torch.Tensor) -> torch.Tensor:
        """Return computed ``rows [n, kv_row_dim]`` as the pools keep them; what a kernel has stored so comes back as it is."""

    def load(self, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return stored ``rows [n, row_dim]`` as what is attended, in ``dtype``: ``[n, kv_row_dim]``."""


@dataclass(frozen=True)
class ComputedRows:
    """Rows are kept as the model computes them."""

    dtype: torch.dtype
    is_float8 = False

    def store(self, rows: torch.Tensor) -> torch.Tensor:
        """Return them."""
        return rows

    def load(self, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return them."""
        return rows.to(dtype)


@dataclass(frozen=True)
class Float8Rows:
    """Rows are uint8: latents in e4m3 with a scale for each group, rope keys in bf16 (``ops.float8_rows``)."""

    latent_dim: int
    rope_dim: int
    dtype = torch.uint8
    is_float8 = True

    def store(self, rows: torch.Tensor) -> torch.Tensor:
        """Quantise."""
        if rows.dtype == torch.uint8:
            return rows
        shape = self.latent_dim, self.rope_dim
        return F.pad(quantise_rows(rows, self.latent_dim), (0, row_bytes(*shape) - packed_bytes(*shape)))

    def load(self, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Give the numbers back, rounded to bf16 as attention's kernels do."""
        packed = rows[..., : packed_bytes(self.latent_dim, self.rope_dim)]
        return dequantise_rows(packed, self.latent_dim).to(dtype)


def row_format_of(layout: KVLayout, model: ModelConfig, dtype: torch.dtype) -> RowFormat:
    """Return what ``layout`` says; ``dtype`` is the model's."""
    if layout.float8_rows:
        return Float8Rows(model.kv_lora_rank, model.qk_rope_head_dim)
    return ComputedRows(dtype)
