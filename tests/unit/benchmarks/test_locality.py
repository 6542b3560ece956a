"""The locality model: what is selected is a valid selection, repeatable, and changes as often as the knob says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.decode_locality import Locality
from hisparse_engine.ops.tables import NONE


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def select(model: Locality, context: int, step: int, request: int = 0, num_groups: int = 1) -> torch.Tensor:
    return model.positions(ints(request), ints(context), ints(context + step), num_groups)[:, 0]


@pytest.mark.parametrize("context", [257, 300, 1000, 131_072])
def test_positions_ascend_are_distinct_and_exist(context: int) -> None:
    model = Locality(top_k=256, window=16, turnover=0.3)
    for step in (1, 2, 50, 3000):
        chosen = select(model, context, step, num_groups=2)
        assert chosen.shape == (2, 256)
        assert chosen.dtype == torch.int32
        assert int(chosen.min()) >= 0
        assert bool((chosen.diff(dim=-1) > 0).all())
        assert chosen[0, -16:].tolist() == list(range(context + step - 16, context + step))


def test_a_short_request_selects_everything_and_padding_nothing() -> None:
    model = Locality(top_k=64, window=8)
    chosen = model.positions(ints(0, 1, 2), ints(10, 63, 0), ints(12, 64, 0), 1)[0]
    assert chosen[0].tolist() == [*range(12), *[NONE] * 52]
    assert chosen[1].tolist() == list(range(64))
    assert bool((chosen[2] == NONE).all())


def test_the_same_step_selects_the_same_and_names_tell_requests_groups_and_seeds_apart() -> None:
    model = Locality(top_k=256, window=16)
    chosen = select(model, 4096, 7, num_groups=2)
    assert torch.equal(chosen, select(model, 4096, 7, num_groups=2))
    others = (
        chosen[1],
        select(model, 4096, 7, request=1)[0],
        select(Locality(top_k=256, window=16, seed=2), 4096, 7)[0],
    )
    assert all(float((chosen[0] == other).float().mean()) < 0.5 for other in others)


def test_a_batch_selects_what_its_requests_select_alone() -> None:
    model = Locality(top_k=128, window=16, turnover=0.2)
    together = model.positions(ints(3, 9), ints(5000, 900), ints(5011, 903), 3)
    assert torch.equal(together[:, 0], select(model, 5000, 11, request=3, num_groups=3))
    assert torch.equal(together[:, 1], select(model, 900, 3, request=9, num_groups=3))


@pytest.mark.parametrize("turnover", [0.0, 0.02, 0.1, 0.25])
def test_turnover_is_the_share_of_strata_that_draw(turnover: float) -> None:
    # Long strata drawn evenly: two draws in a row are hardly ever the same position.
    model = Locality(top_k=512, window=0, turnover=turnover, skew=1)
    steps = [select(model, 1 << 20, step)[0] for step in range(1, 81)]
    changed = [float((a != b).sum()) for a, b in pairwise(steps)]
    assert sum(changed) / len(changed) == pytest.approx(turnover * 512, rel=0.12, abs=0.01)


def test_favourites_come_back() -> None:
    def distinct(skew: int) -> int:
        model = Locality(top_k=128, window=0, turnover=0.5, skew=skew)
        return len({int(p) for step in range(1, 101) for p in select(model, 65_536, step)[0]})

    assert distinct(1) > 1.5 * distinct(6)


@pytest.mark.parametrize("knobs", [{"window": 2048}, {"window": -1}, {"turnover": 1.5}, {"skew": 0}])
def test_knobs_out_of_range_are_refused(knobs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(knobs))):
        Locality(**knobs)
