"""Streams at their worst, on the CPU: a copy beside the computation runs as late as what waits for it allows.

What a graph leaves behind is overwritten as soon as another graph runs, since captured graphs share their memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from hisparse_engine.decoding.graphs import CalledStep, StepResult

NOT_A_SLOT = 1 << 30


class Mark(NamedTuple):
    """In place of an event: how many copies of each direction are done when it is reached."""

    down: int
    up: int


class LateLink:
    """A link whose copies run when the computation waits for them, and not before."""

    def __init__(self) -> None:
        self._down: list[Callable[[], None]] = []
        self._up: list[tuple[int, Callable[[], None]]] = []  # copies down that come first, copy
        self._done = Mark(0, 0)

    def send(self, copy: Callable[[], None]) -> Any:
        """Keep it for later."""
        self._down.append(copy)
        return Mark(len(self._down), 0)

    def fetch(self, copy: Callable[[], None]) -> Any:
        """Keep it for later, behind all that was sent."""
        self._up.append((len(self._down), copy))
        return Mark(0, len(self._up))

    def wait_for(self, event: Any) -> None:
        """Copy up to there."""
        if event is None:
            return
        for first, copy in self._up[self._done.up : event.up]:
            self._copy_down(first)
            copy()
        self._copy_down(event.down)
        self._done = Mark(self._done.down, max(self._done.up, event.up))

    def wait_for_sent(self) -> None:
        """Copy all that was sent."""
        self._copy_down(len(self._down))

    def synchronize(self) -> None:
        """Copy everything."""
        self.wait_for(Mark(len(self._down), len(self._up)))

    def _copy_down(self, count: int) -> None:
        for copy in self._down[self._done.down : count]:
            copy()
        self._done = Mark(max(self._done.down, count), self._done.up)


class SharedMemoryStep(CalledStep):
    """A called step; running any of those that share ``pool`` spoils what the one before returned."""

    def __init__(self, size: int, _device: torch.device, step: Any, pool: Any) -> None:
        super().__init__(size, step)
        self.pool: Any = [] if pool is None else pool

    def run(self, inputs: torch.Tensor) -> StepResult:
        """Spoil, then run the step."""
        for tensor in self.pool:
            tensor.fill_(float("nan") if tensor.is_floating_point() else NOT_A_SLOT)
        result = super().run(inputs)
        self.pool[:] = result
        return result
