"""The shapes of what is cached, and how much of it there may be: plain numbers, which need no tensor and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class KVLayout(NamedTuple):
    """Shapes of what is cached. ``group_of_layer[l]`` is the index group that layer ``l`` takes its top-k from."""

    row_dim: int
    index_dim: int
    group_of_layer: tuple[int, ...]

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

    @classmethod
    def from_indexer_types(cls, row_dim: int, index_dim: int, indexer_types: Sequence[str]) -> KVLayout:
        """Derive groups from per-layer ``full``/``shared`` (the first layer is ``full``)."""
        groups, current = [], -1
        for kind in indexer_types:
            current += kind == "full"
            groups.append(current)
        return cls(row_dim, index_dim, tuple(groups))


@dataclass(frozen=True)
class PoolSizes:
    """Capacities in tokens. ``device_buffer_size`` is the hot buffer's size without the newest token's slot."""

    device_tokens: int
    host_tokens: int
    index_tokens: int
    device_buffer_size: int
