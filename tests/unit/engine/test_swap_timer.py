"""What a step's swap-ins took: some groups timed on the device, for all; and the clock that the device reads."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from hisparse_engine.decoding.swap_timer import MOST_GROUPS, SwapTimer, timed_groups
from hisparse_engine.engine import Engine
from hisparse_engine.ops import reference
from hisparse_engine.request import SamplingParams
from hisparse_metrics.stats import Duration
from tests.support.models import BACKENDS, engine_config, random_prompt, tiny_model


class Clock:
    """Operations of which only the clock is there, and moves when told to."""

    def __init__(self) -> None:
        self.now = 1_795_000_000 * 10**9
        self.reads = 0

    def add_time(self, total: torch.Tensor, sign: int) -> None:
        self.reads += 1
        total.add_(sign * self.now)


def timer(layers: list[int]) -> tuple[SwapTimer, Any, torch.Tensor]:
    clock, total = Clock(), torch.zeros(1, dtype=torch.int64)
    return SwapTimer(clock, total, layers), clock, total  # type: ignore[arg-type]


def step(made: SwapTimer, clock: Any, groups: int, nanoseconds: int) -> None:
    """Let every group's swap-in take so long, and as long pass between them."""
    for group in range(groups):
        made.start(group)
        clock.now += nanoseconds
        made.stop(group)
        clock.now += nanoseconds


def test_a_step_takes_what_all_its_swap_ins_take_and_nothing_between_them() -> None:
    made, clock, total = timer([1, 3, 4])
    step(made, clock, 3, 2_000)
    assert made.seconds(int(total)) == pytest.approx(6e-6)


def test_each_step_counts_from_the_one_before() -> None:
    made, clock, total = timer([1, 1])
    step(made, clock, 2, 1_000)
    made.seconds(int(total))
    step(made, clock, 2, 5_000)
    assert made.seconds(int(total)) == pytest.approx(10e-6)
    assert made.seconds(int(total)) == 0.0


def test_of_many_groups_some_stand_for_all() -> None:
    made, clock, total = timer([1] * 60)
    step(made, clock, 60, 1_000)
    assert clock.reads == 2 * MOST_GROUPS
    assert made.seconds(int(total)) == pytest.approx(60e-6)


def test_groups_stand_for_as_many_layers_as_there_are() -> None:
    layers = [3] * MOST_GROUPS + [1] * MOST_GROUPS
    made, clock, total = timer(layers)
    step(made, clock, len(layers), 1_000)
    timed = sum(layers[group] for group in timed_groups(len(layers)))
    assert made.seconds(int(total)) == pytest.approx(MOST_GROUPS * 1e-6 * sum(layers) / timed)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, {0}), (3, {0, 1, 2}), (4, {0, 1, 2, 3}), (12, {1, 4, 7, 10})]
)
def test_timed_groups_are_spread_evenly(count: int, expected: set[int]) -> None:
    assert timed_groups(count) == expected


def test_the_reference_reads_the_hosts_clock() -> None:
    total = torch.zeros(1, dtype=torch.int64)
    before = time.perf_counter_ns()
    reference.add_time(total, -1)
    time.sleep(0.002)
    reference.add_time(total, 1)
    assert 2_000_000 <= int(total) <= time.perf_counter_ns() - before


def test_the_device_reads_its_own() -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hisparse_engine.ops.gpu import clock

    for sign in (1, -1):
        source = ASTSource(
            clock._add_time, signature={"total": "*i64", "SIGN": "constexpr"}, constexprs={"SIGN": sign}
        )
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["ptx"]
        assert ptx.count("%globaltimer") == 1
        assert ptx.count("atom.global.gpu.relaxed.add.u64") == 1
        assert ("neg.s64" in ptx) == (sign < 0)


def test_every_decode_step_over_tables_has_its_time() -> None:
    watched: list[Duration] = []
    engine = Engine(
        tiny_model(seed=5, max_position_embeddings=512),
        engine_config(),
        observers=[lambda stats: watched.extend(stats.durations)],
        backend=BACKENDS["tables"],
    )
    engine.add_request(random_prompt(40, 1), SamplingParams(6, ignore_eos=True))
    engine.run()
    swap_in = [each.seconds for each in watched if each.field == "swap_in_seconds"]
    assert len(swap_in) == sum(each.field == "decode_step_seconds" for each in watched) == 5
    assert all(0 < seconds < 10 for seconds in swap_in)
