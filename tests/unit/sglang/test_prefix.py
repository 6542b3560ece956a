from __future__ import annotations

import pytest

from hisparse_metrics.sglang.prefix import MAX_PREFIX, read_prefix
from hisparse_metrics.sglang.records import Value

STAMP: dict[str, Value] = {"date": "2026-04-08", "time": "14:05:21"}


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("", {}),
        ("[2026-04-08 14:05:21] ", STAMP),
        ("[2026-04-08 14:05:21.170 TP0] ", STAMP | {"time": "14:05:21.170", "tp_rank": 0}),
        ("[16:43:29 TP3] ", {"time": "16:43:29", "tp_rank": 3}),
        ("[2026-04-08 14:05:21 DP1 TP2 PP3] ", STAMP | {"dp_rank": 1, "tp_rank": 2, "pp_rank": 3}),
        ("[2026-04-08 14:05:21 DP1 TP2 EP3 PP4] ",
         STAMP | {"dp_rank": 1, "tp_rank": 2, "ep_rank": 3, "pp_rank": 4}),
        ("[2026-04-08 14:05:21 DP7 PP0 ATTN_CP1 MOE_DP2 TP5 EP6] ",
         STAMP | {"dp_rank": 7, "pp_rank": 0, "attn_cp_rank": 1, "moe_dp_rank": 2, "tp_rank": 5, "ep_rank": 6}),
        ("2026-04-08 14:05:21 INFO 31223 [DP3 TP3 EP3 scheduler_metrics_mixin.py:222] ",
         STAMP | {"dp_rank": 3, "tp_rank": 3, "ep_rank": 3}),
        ("2026-04-08 14:05:21,042 INFO [scheduler.py:222] ", STAMP | {"time": "14:05:21.042"}),
        ("[2026-04-08 14:05:21] INFO [TP1] ", STAMP | {"tp_rank": 1}),
        ("Loading: 40%|####  | [00:12<00:18, 3.4it/s][2026-04-08 14:05:21 TP0] ", STAMP | {"tp_rank": 0}),
        ("node-3:4182:4290 [0] NCCL INFO [2026-04-08 14:05:21] ", STAMP),
        ("Loading: 40%|####  | [00:12<00:18, 3.4it/s] ", {}),
        ("(SGLangEngine pid=35555) [2026-04-08 14:05:21] ", STAMP | {"ray_pid": 35555}),
        ("(A(rank=0) pid=1, ip=fd00::7) [2026-04-08 14:05:21] ", STAMP | {"ray_pid": 1, "ray_ip": "fd00::7"}),
        ("host python[1234]: ", {}),
        ("[pod/sglang-decode-0/sglang] ", {}),
        ("[2026-04-08 14:05:21 TP", STAMP),  # cut: the rank is not guessed
    ],
)  # fmt: skip
def test_prefix_says(head: str, values: dict[str, Value]) -> None:
    assert read_prefix(head).values == values


def test_start_is_where_the_record_in_front_ends() -> None:
    assert read_prefix("0, [2026-04-08 14:05:21 TP0] ").start == 3
    assert read_prefix("122026-04-08 14:05:21 INFO [TP0] ").start == 2
    assert read_prefix("0 (Engine pid=4) [2026-04-08 14:05:21] ").start == 2
    assert read_prefix("est uncap acc len: 3.20 [2.90, 3.50], ").start == 38


def test_only_the_end_of_a_long_head_is_looked_at() -> None:
    far = "[2026-04-08 14:05:21 TP0] " + " " * MAX_PREFIX

    assert read_prefix(far).values == {}
