"""Runs one fixed-size step: as a CUDA graph where there is a CUDA device, else by calling it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch

Step: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

NUM_INPUTS = 3
"""Integers a request that a step starts from."""


class StepResult(NamedTuple):
    """What a step left on the device; overwritten by the next run of any runner with the same ``pool``.

    Graphs captured into one pool share their memory: only the stream that replays them may read this, before it goes on.
    """

    logits: torch.Tensor  # [size, vocab]
    tokens: torch.Tensor  # int64 [size]


class StepRunner(Protocol):
    """A step for ``size`` requests."""

    size: int
    pool: Any

    def host_inputs(self) -> torch.Tensor:
        """Return int32 ``[NUM_INPUTS, size]`` on the host, to fill and to give to :meth:`run`."""

    def run(self, inputs: torch.Tensor) -> StepResult:
        """Start the step."""


class CalledStep:
    """Calls the step."""

    pool = None

    def __init__(self, size: int, step: Step) -> None:
        self.size, self._step = size, step

    def host_inputs(self) -> torch.Tensor:
        """Return new inputs."""
        return torch.empty((NUM_INPUTS, self.size), dtype=torch.int32)

    def run(self, inputs: torch.Tensor) -> StepResult:
        """Run the step."""
        return StepResult(*self._step(inputs))


class CapturedStep:
    """A CUDA graph. Its inputs go through two pinned buffers in turn: at most one earlier run may be under way."""

    def __init__(self, size: int, device: torch.device, step: Step, pool: Any) -> None:
        """Run the step on padding (which touches nothing) to compile what it needs, then capture it."""
        self.size = size
        self._inputs = torch.empty((NUM_INPUTS, size), dtype=torch.int32, device=device)
        self._inputs.copy_(torch.tensor([[-1], [0], [0]], dtype=torch.int32).expand(-1, size))
        self._host = [torch.empty((NUM_INPUTS, size), dtype=torch.int32, pin_memory=True) for _ in range(3)]
        self._turn = 0
        warm_up = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        warm_up.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(warm_up):
            step(self._inputs)
        torch.cuda.current_stream(device).wait_stream(warm_up)
        self._graph = torch.cuda.CUDAGraph()
        self.pool = pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self._graph, pool=self.pool):
            self._result = StepResult(*step(self._inputs))

    def host_inputs(self) -> torch.Tensor:
        """Return the pinned buffer that nobody reads any more."""
        self._turn = (self._turn + 1) % len(self._host)
        return self._host[self._turn]

    def run(self, inputs: torch.Tensor) -> StepResult:
        """Copy the inputs and replay the graph."""
        self._inputs.copy_(inputs, non_blocking=True)
        self._graph.replay()
        return self._result


def make_runner(size: int, device: torch.device, step: Step, pool: Any) -> StepRunner:
    """Return what fits ``device``; ``pool`` is the memory that graphs captured so far share."""
    if device.type == "cuda":
        return CapturedStep(size, device, step, pool)
    return CalledStep(size, step)
