"""Times swap-ins on the GPU, in CUDA graphs, and the limits that the machine sets them.

A *call* is one graph launch between two events; a *chained* call is one of many in one graph, as in a decode step, and
so without the launch of a graph. Production-like calls take another layer's pool each, with L2 flushed in between; their
chained time is that of flushes and calls less that of the flushes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.swap_in_workload import POOL_BYTES, Shape, Workload, fill, make, wrong_rows
from hisparse_engine.ops.gpu import swap_in
from hisparse_engine.ops.tables import NONE, SwapPlan

CALLS = 20
_SETTLING = 3  # first calls that are not counted
_SPIN = 3_000_000  # cycles that the device waits while the host fills the queue
_FLUSH_INTS = 64 << 20


@dataclass(frozen=True)
class Times:
    """µs of one cell: medians of calls, and means of chained calls."""

    plan_call: float
    plan_chained: float
    call: float
    chained: float
    wrong_rows: int
    copies: int


class Bench:
    """Owns the pinned host memory, as many layers' pools as fit, and what flushes L2."""

    def __init__(self, host_bytes: int) -> None:
        """Pin ``host_bytes``; raises what torch raises when there is not as much."""
        self.device = torch.device("cuda")
        self._host = torch.empty(host_bytes // 4, dtype=torch.int32, pin_memory=True)
        self._flush = torch.empty(_FLUSH_INTS, dtype=torch.int32, device=self.device)
        self._filled_for = 0

    def layers(self, row_bytes: int) -> torch.Tensor:
        """Return the layers' pools, filled: int32 ``[layers, host_tokens, width]``, a pool being ``POOL_BYTES`` long."""
        width, host_tokens = row_bytes // 4, POOL_BYTES // row_bytes
        layers = self._host.numel() // (width * host_tokens)
        pools = self._host[: layers * host_tokens * width].view(layers, host_tokens, width)
        if self._filled_for != row_bytes:
            fill(pools, self.device)
            self._filled_for = row_bytes
        return pools

    def measure(self, shape: Shape, production: bool) -> Times:
        """Time one cell; every call is a step of its own, and rows are verified after the last."""
        pools = self.layers(shape.row_bytes)
        flush = self._flush if production else None
        if not production:
            pools = pools[:1]
            self._warm(pools[0, : shape.host_tokens])
        results = []
        for with_copy in (False, True):
            work = make(shape, CALLS, self.device)
            call = time_calls([_step(work, t, pools, with_copy) for t in range(CALLS)], flush)
            work = make(shape, CALLS, self.device)
            chained = time_chain([_step(work, t, pools, with_copy) for t in range(CALLS)], flush)
            results += [call, chained]
        return Times(*results, wrong_rows(work, CALLS - 1), int(work.num_copies[-1]))

    def _warm(self, pool: torch.Tensor) -> None:
        """Fetch a row of every 4 KiB of ``pool``: what is known of a pool in use, its pages' addresses, comes near."""
        pages = torch.arange(
            0, len(pool), max(1, 4096 // (4 * pool.shape[1])), dtype=torch.int32, device=self.device
        )
        for part in pages.split(1 << 16):
            self._fetch(pool, len(part), part)()
        torch.cuda.synchronize()

    def scattered(self, shape: Shape, production: bool) -> float:
        """Return the chained µs of fetching as many rows as the cell does, random ones: what the copy alone comes to."""
        pools = self.layers(shape.row_bytes)[:, : shape.host_tokens]
        if not production:
            pools = pools[:1]
            self._warm(pools[0])
        count = shape.batch * shape.misses
        calls = [self._fetch(pools[t % len(pools)], count, None) for t in range(CALLS)]
        return time_chain(calls, self._flush if production else None)

    def contiguous(self, count: int = 1 << 16) -> float:
        """Return GB/s of fetching neighbouring rows by the multiprocessors."""
        pools = self.layers(1152)
        rows = torch.arange(count, dtype=torch.int32, device=self.device)
        affine = (1, 4, 132, 256)
        return 1152e-3 * count / time_chain([self._fetch(pools[0], count, rows, affine)] * CALLS, None)

    def copy_engine(self, size: int = 1 << 28) -> float:
        """Return GB/s of one large host-to-device copy."""
        target = torch.empty(size // 4, dtype=torch.int32, device=self.device)
        source = self._host[: size // 4]
        return 1e-3 * size / time_chain([lambda: target.copy_(source, non_blocking=True)] * 4, None)

    def empty_graph(self) -> float:
        """Return the µs of launching a graph that does next to nothing."""
        word = torch.zeros(1, device=self.device)
        return time_calls([lambda: word.add_(1)] * CALLS, None)

    def _fetch(
        self,
        pool: torch.Tensor,
        count: int,
        rows: torch.Tensor | None,
        shape: tuple[int, int, int, int] | None = None,
    ) -> Callable[[], None]:
        i32 = {"dtype": torch.int32, "device": self.device}
        if rows is None:
            rows = torch.randint(len(pool), (count,), **i32)
        nowhere = torch.full((0,), NONE, **i32)
        to = torch.randperm(max(count, 1 << 16), device=self.device)[:count].int()
        plan = SwapPlan(
            torch.empty(256 if count > 4096 else 8, 0, **i32),
            nowhere,
            rows,
            to,
            torch.full((1,), count, **i32),
        )
        seats = torch.empty(max(count, 1 << 16), pool.shape[1], **i32)
        none = torch.empty(0, pool.shape[1], **i32)
        return lambda: swap_in.copy_rows(plan, pool, seats, none, None, shape)


def _step(work: Workload, t: int, pools: torch.Tensor, with_copy: bool) -> Callable[[], None]:
    hot, plan = work.at(t)
    pool = pools[t % len(pools)]

    def step() -> None:
        swap_in.plan_swap_in(work.tokens, hot, 0, 1, work.rows, work.lengths[t], work.positions[t], plan)
        if with_copy:
            swap_in.copy_rows(plan, pool, work.device_rows, work.new_rows, None)

    return step


def capture(*operations: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Return a graph of these operations, one after another."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for operation in operations:
            operation()
    return graph


def time_calls(calls: Sequence[Callable[[], object]], flush: torch.Tensor | None) -> float:
    """Return the median µs of a graph launch, each graph one of ``calls``."""
    graphs = [capture(call) for call in calls]
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in calls]
    torch.cuda._sleep(_SPIN)
    for graph, (begin, end) in zip(graphs, events, strict=True):
        if flush is not None:
            flush.zero_()
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return median(1e3 * begin.elapsed_time(end) for begin, end in events[_SETTLING:])


def time_chain(calls: Sequence[Callable[[], object]], flush: torch.Tensor | None) -> float:
    """Return the mean µs of a call within one graph of all ``calls``."""
    if flush is None:
        return _replay(capture(*calls)) / len(calls)
    flushes = [flush.zero_] * len(calls)
    both = [operation for pair in zip(flushes, calls, strict=True) for operation in pair]
    return (_replay(capture(*both)) - _replay(capture(*flushes))) / len(calls)


def _replay(graph: torch.cuda.CUDAGraph) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(_SPIN)
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * begin.elapsed_time(end)
