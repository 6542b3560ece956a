"""Times swap-ins where they happen, on the device: no event is read, nothing waits, and a CUDA graph can hold it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.ops.interface import Operations

MOST_GROUPS = 4
"""Index groups of a step that are timed. Reading the clock takes about as long as an empty kernel; more would be felt."""


class SwapTimer:
    """Times some groups' swap-ins, evenly spread over the model, and takes them for all.

    A group's time goes from its selection until the copy for its last layer has ended: shared-index layers count, whose
    copies run while the first layer computes. No two groups' times overlap.
    """

    def __init__(self, ops: Operations, total: torch.Tensor, layers_of_groups: Sequence[int]) -> None:
        """``total`` int64 ``[1]`` collects nanoseconds on the device; ``layers_of_groups`` has each group's layers."""
        self._ops, self._total = ops, total
        self._timed = timed_groups(len(layers_of_groups))
        of_timed = sum(layers_of_groups[group] for group in self._timed)
        self._scale = sum(layers_of_groups) / of_timed / 1e9
        self._seen = 0

    def start(self, group: int) -> None:
        """Note, in stream order, that ``group``'s swap-in begins."""
        if group in self._timed:
            self._ops.add_time(self._total, -1)

    def stop(self, group: int) -> None:
        """Note, in stream order, that the copy for the last layer of ``group`` has ended."""
        if group in self._timed:
            self._ops.add_time(self._total, 1)

    def seconds(self, total: int) -> float:
        """Return what the swap-ins of all groups have taken since the last call; ``total`` is what was collected by then."""
        taken, self._seen = total - self._seen, total
        return taken * self._scale


def timed_groups(count: int) -> frozenset[int]:
    """Return at most :data:`MOST_GROUPS` of ``count`` groups, evenly spread."""
    timed = min(count, MOST_GROUPS)
    return frozenset((2 * i + 1) * count // (2 * timed) for i in range(timed))
