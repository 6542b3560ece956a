"""The shapes of what is cached, and how much of it there may be: plain numbers, which need no tensor and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hisparse_engine.errors import ConfigError
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.ops import float8_rows as in_float8

KVCacheDtype = Literal["auto", "float8"]


class KVLayout(NamedTuple):
    """Shapes of what is cached. ``group_of_layer[l]`` is the index group that layer ``l`` takes its top-k from."""

    row_dim: int
    """Elements of a KV row as it is stored; bytes where rows are in float8."""
    index_dim: int
    group_of_layer: tuple[int, ...]
    float8_rows: bool = False

    @property
    def num_layers(self) -> int:
        """Layers that keep KV rows."""
        return len(self.group_of_layer)

    @property
    def num_groups(self) -> int:
        """Layers that keep index keys."""
        return max(self.group_of_layer) + 1

    def layers_in(self, group: int) -> int:
        """How many layers share one index group's selection."""
        return self.group_of_layer.count(group)

    def row_bytes(self, itemsize: int) -> int:
        """Return the bytes of a row in one layer, for a model whose elements have ``itemsize`` bytes."""
        return self.row_dim if self.float8_rows else self.row_dim * itemsize

    def unfit_for_kernels(self, itemsize: int, latent_dim: int) -> str | None:
        """Say why the compiled kernels cannot work on such rows; None when they can."""
        row_bytes = self.row_bytes(itemsize)
        if row_bytes % 16:
            return f"a KV row of {row_bytes} bytes is no multiple of 16"
        if self.float8_rows and latent_dim & (latent_dim - 1):
            return f"a KV row in float8 has a latent of {latent_dim} numbers, no power of two"
        return None

    @classmethod
    def from_indexer_types(cls, row_dim: int, index_dim: int, indexer_types: Sequence[str]) -> KVLayout:
        """Derive groups from per-layer ``full``/``shared`` (the first layer is ``full``)."""
        groups, current = [], -1
        for kind in indexer_types:
            current += kind == "full"
            groups.append(current)
        return cls(row_dim, index_dim, tuple(groups))

    @classmethod
    def of_model(cls, model: ModelConfig, kv_cache_dtype: KVCacheDtype = "auto") -> KVLayout:
        """Return a model's layout; :class:`ConfigError` when its rows cannot be kept in ``kv_cache_dtype``."""
        computed = cls.from_indexer_types(model.kv_row_dim, model.index_head_dim, model.indexer_types)
        if kv_cache_dtype == "auto":
            return computed
        if model.kv_lora_rank % in_float8.SCALE_GROUP:
            raise ConfigError(
                f"kv_cache_dtype: float8 has a scale for every {in_float8.SCALE_GROUP} numbers of a latent, and the "
                f"model's latents have {model.kv_lora_rank} (kv_lora_rank), no multiple of that; use auto"
            )
        return computed._replace(
            row_dim=in_float8.row_bytes(model.kv_lora_rank, model.qk_rope_head_dim), float8_rows=True
        )


@dataclass(frozen=True)
class PoolSizes:
    """Capacities in tokens. ``device_buffer_size`` is the hot buffer's size without the newest token's slot."""

    device_tokens: int
    host_tokens: int
    index_tokens: int
    device_buffer_size: int
