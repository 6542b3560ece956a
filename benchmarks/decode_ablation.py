"""Where a step's time goes, by leaving parts of it out: what the step is shorter by is what the part had added to it.

Unlike a sum of kernel times this counts what overlaps only once, and host time that nothing hides. What is left when all
parts are gone is the model itself: projections, experts, norms, sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.decode_scenario import Mode
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import NONE, HotTables, SwapPlan, TokenTables

_MEAN_SIZE = 2048**-0.5  # of the mean of so many random rows
SWAP_IN, ATTEND, SELECT, REST = "swap-in and backup", "attend", "select", "the model"
TIMING = "the clock of swap-ins"
LEVELS: Mapping[Mode, tuple[tuple[str, frozenset[str]], ...]] = {
    "hierarchical": (
        (SWAP_IN, frozenset({SWAP_IN})),
        (ATTEND, frozenset({SWAP_IN, ATTEND})),
        (SELECT, frozenset({SWAP_IN, ATTEND, SELECT})),
    ),
    "resident": ((ATTEND, frozenset({ATTEND})), (SELECT, frozenset({ATTEND, SELECT}))),
}
"""For each mode: a part, and everything that is gone when it has been taken away as well."""


def parts(mode: Mode, whole_ms: float, without_ms: Mapping[str, float]) -> dict[str, float]:
    """Return ms of each part, from the whole step and the step after each of the mode's levels."""
    found, before = {}, whole_ms
    for part, _ in LEVELS[mode]:
        found[part] = round(before - without_ms[part], 4)
        before = without_ms[part]
    return found | {REST: round(before, 4)}


class Without:
    """The operations, less those of some parts. Results are wrong, and shapes and slots valid."""

    def __init__(self, ops: Operations, gone: frozenset[str]) -> None:
        self._ops, self._gone = ops, gone
        self._noise: dict[tuple[int, ...], torch.Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def select(self, *arguments: torch.Tensor) -> None:
        """Score and select, or leave positions as they are: whoever selects in the model's place comes next."""
        if SELECT not in self._gone:
            self._ops.select(*arguments)  # type: ignore[call-arg]

    def attend(
        self, query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, **how: Any
    ) -> torch.Tensor:
        """Attend, or return the same noise each time: tokens have to stay apart, or they share their experts."""
        if ATTEND in self._gone:
            shape = (*query.shape[:2], how["latent_dim"])
            if shape not in self._noise:
                generator = torch.Generator(query.device).manual_seed(1)
                values = torch.randn(shape, generator=generator, device=query.device, dtype=torch.float32)
                self._noise[shape] = (_MEAN_SIZE * values).to(query.dtype)
            return self._noise[shape]
        return self._ops.attend(query, rows, slots, **how)

    def plan_swap_in(
        self,
        tokens: TokenTables,
        hot: HotTables,
        group: int,
        num_layers: int,
        rows: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,
        plan: SwapPlan,
    ) -> None:
        """Plan, or take the first seats of each buffer for the slots wanted."""
        if SWAP_IN not in self._gone:
            self._ops.plan_swap_in(tokens, hot, group, num_layers, rows, lengths, positions, plan)
            return
        torch.index_select(hot.buffer[:, : positions.shape[1]], 0, rows.clamp(min=0), out=plan.slots)
        plan.newest.fill_(NONE)

    def copy_rows(self, *arguments: Any) -> None:
        """Copy, or do not."""
        if SWAP_IN not in self._gone:
            self._ops.copy_rows(*arguments)

    def backup_rows(self, *arguments: Any) -> None:
        """Back up, or do not."""
        if SWAP_IN not in self._gone:
            self._ops.backup_rows(*arguments)

    def add_time(self, total: torch.Tensor, sign: int) -> None:
        """Read the clock, or do not."""
        if TIMING not in self._gone:
            self._ops.add_time(total, sign)
