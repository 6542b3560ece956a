"""Steps with parts left out: they still run, and what is missing is what was asked for."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from benchmarks.decode_ablation import ATTEND, LEVELS, REST, SELECT, SWAP_IN, TIMING, Without, parts
from benchmarks.decode_scenario import MODES
from hisparse_engine.ops.interface import Operations


class Called:
    """Operations that note that they were called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.names.append(name)


def test_parts_add_up_to_the_step() -> None:
    found = parts("hierarchical", 10.0, {SWAP_IN: 9.0, ATTEND: 7.5, SELECT: 7.0})
    assert found == {SWAP_IN: 1.0, ATTEND: 1.5, SELECT: 0.5, REST: 7.0}
    assert sum(parts("resident", 8.0, {ATTEND: 7.0, SELECT: 6.5}).values()) == 8.0


@pytest.mark.parametrize("mode", MODES)
def test_each_level_takes_one_part_more_away(mode: Any) -> None:
    gone: frozenset[str] = frozenset()
    for part, now in LEVELS[mode]:
        assert now - gone == {part}
        gone = now


def test_only_what_is_gone_is_not_called() -> None:
    called = Called()
    ops = Without(cast(Operations, called), frozenset({ATTEND}))
    ops.select()
    ops.copy_rows()
    ops.backup_rows()
    ops.locate()
    ops.add_time(torch.zeros(1), 1)
    out, again = (
        ops.attend(torch.ones(2, 3, 8), torch.ones(1), torch.ones(1), latent_dim=5, scale=1.0)
        for _ in range(2)
    )
    assert called.names == ["select", "copy_rows", "backup_rows", "locate", "add_time"]
    assert out.shape == (2, 3, 5)
    assert out.data_ptr() == again.data_ptr()  # nothing is computed
    assert not torch.equal(out[0], out[1])


def test_without_timing_the_clock_is_not_read() -> None:
    called: Any = Called()
    ops = Without(called, frozenset({TIMING}))
    ops.add_time(torch.zeros(1), 1)
    ops.copy_rows()
    assert called.names == ["copy_rows"]


def test_without_swap_in_slots_are_the_buffers_first() -> None:
    called: Any = Called()
    ops = Without(called, frozenset({SWAP_IN, SELECT}))
    hot: Any = type("Hot", (), {"buffer": torch.arange(20, dtype=torch.int32).view(2, 10)})
    plan: Any = type("Plan", (), {"slots": torch.empty(3, 4, dtype=torch.int32), "newest": torch.ones(3)})
    rows, unused = torch.tensor([1, -1, 0], dtype=torch.int32), cast(Any, None)
    ops.plan_swap_in(unused, hot, 0, 1, rows, unused, torch.empty(3, 4), plan)
    ops.select()
    ops.copy_rows()
    ops.backup_rows()
    assert plan.slots.tolist() == [[10, 11, 12, 13], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert plan.newest.tolist() == [-1, -1, -1]
    assert called.names == []
