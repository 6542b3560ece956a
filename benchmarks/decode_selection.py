"""Who selects in a benchmark: the model's own indexer, or the locality model in its place."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.decode_locality import Locality
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import NONE, IndexKeyRows, SwapPlan
from hisparse_engine.table_coordinator import TableHiSparseCoordinator


class SelectedByLocality:
    """The operations, but for ``select``: it scores as ever, so that its time counts, and then answers for the model."""

    def __init__(self, ops: Operations, locality: Locality, context: int) -> None:
        """Requests have ``context`` tokens when they begin to decode."""
        self._ops, self._locality, self._context = ops, locality, context
        self._groups: dict[int, int] = {}

    @property
    def top_k(self) -> int:
        """Positions that a request selects."""
        return self._locality.top_k

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def select(
        self,
        query: torch.Tensor,
        weights: torch.Tensor,
        index: IndexKeyRows,
        key_slots: torch.Tensor,
        starts: torch.Tensor,
        lengths: torch.Tensor,
        out: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:
        """Score, then write the locality model's positions to ``out``."""
        self._ops.select(query, weights, index, key_slots, starts, lengths, out, scores)
        group = self._groups.setdefault(index.keys.data_ptr(), len(self._groups))  # groups come in order
        self.write(starts, lengths, out, group)

    def write(
        self, starts: torch.Tensor, lengths: torch.Tensor, out: torch.Tensor, group: int, past: int = 0
    ) -> None:
        """Write int32 ``[batch, k]`` for requests whose stretches begin at ``starts``; as it was ``past`` steps ago."""
        if out.is_cuda:
            from benchmarks.decode_locality_kernel import write_positions

            write_positions(
                self._locality, starts, lengths, out, context=self._context, group=group, past=past
            )
            return
        admitted = torch.full_like(lengths, self._context)
        out.copy_(self._locality.positions(starts.int(), admitted, lengths, group + 1, past)[group])


def live_through(
    coordinator: TableHiSparseCoordinator, ops: SelectedByLocality, seats: list[Any], steps: int
) -> None:
    """Let hot buffers see the selections of the last ``steps`` steps, so that they hold what they would after them.

    Only the tables change: rows keep whatever bytes they have, which no timing depends on.
    """
    hot, layout, device = coordinator.hot.tables, coordinator.layout, coordinator.device_pool.rows.device
    rows = torch.tensor([seat.row for seat in seats], dtype=torch.int32, device=device)
    lengths = torch.tensor([seat.length for seat in seats], dtype=torch.int32, device=device)
    starts = torch.tensor([seat.stretch.start for seat in seats], dtype=torch.int64, device=device)
    positions = torch.empty((len(seats), ops.top_k), dtype=torch.int32, device=device)
    plan = _room_for(positions)
    for past in range(steps, 0, -1):
        hot.now.add_(1)
        for group in range(layout.num_groups):
            ops.write(starts, lengths, positions, group, past)
            plan.num_copies.zero_()
            ops.plan_swap_in(
                coordinator.requests.tokens,
                hot,
                group,
                layout.layers_in(group),
                rows,
                lengths,
                positions,
                plan,
            )


def _room_for(positions: torch.Tensor) -> SwapPlan:
    def numbers(*shape: int) -> torch.Tensor:
        return torch.full(shape, NONE, dtype=torch.int32, device=positions.device)

    batch, k = positions.shape
    return SwapPlan(numbers(batch, k), numbers(batch), numbers(batch * k), numbers(batch * k), numbers(1))
