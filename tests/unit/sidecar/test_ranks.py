from __future__ import annotations

import pytest

from hisparse_metrics.sglang import Value
from hisparse_metrics.sidecar.ranks import RankKey, signature

WRITERS: list[tuple[dict[str, Value], str]] = [
    ({}, ""),
    ({"dp_rank": 1}, ""),
    ({"tp_rank": 1}, ""),
    ({"dp_rank": 1, "tp_rank": 1}, ""),
    ({"attn_cp_rank": 1}, ""),
    ({"attn_cp_rank": 0}, ""),
    ({"moe_dp_rank": 1}, ""),
    ({"attn_cp_rank": 1, "moe_dp_rank": 0}, ""),
    ({"xp_rank": 1}, ""),
    ({}, "pod/a"),
    ({"ray_pid": 7, "ray_ip": "10.0.0.1"}, ""),
    ({"ray_pid": 8, "ray_ip": "10.0.0.1"}, ""),
]


def test_no_two_writers_share_a_key_or_labels() -> None:
    keys = [RankKey.of(values, origin) for values, origin in WRITERS]
    assert len(set(keys)) == len(WRITERS)
    assert len({tuple(sorted(key.labels().items())) for key in keys}) == len(WRITERS)


def test_equal_signatures_have_equal_keys() -> None:
    found = {signature(values, origin): RankKey.of(values, origin) for values, origin in WRITERS}
    assert len(found) == len(WRITERS)
    assert signature({"phase": "decode", "dp_rank": 1}, "") == signature({"dp_rank": 1, "tokens": 9}, "")


def test_a_rank_that_the_prefix_leaves_out_is_zero() -> None:
    assert RankKey.of({"tp_rank": 0}) == RankKey.of({}) == RankKey()
    assert RankKey.of({}).labels() == dict.fromkeys(("dp_rank", "pp_rank", "tp_rank", "ep_rank"), "0")


@pytest.mark.parametrize(("values", "origin"), WRITERS)
def test_a_key_survives_json(values: dict[str, Value], origin: str) -> None:
    key = RankKey.of(values, origin)
    assert RankKey.from_json(key.to_json()) == key


@pytest.mark.parametrize("data", [None, {}, [], [[0], [], ""], [["a", 0, 0, 0], [], ""]])
def test_what_is_no_key_is_refused(data: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        RankKey.from_json(data)
