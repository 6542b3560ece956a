from __future__ import annotations

import pytest

from hisparse_metrics.sglang import Event, EventKind, LogParser
from hisparse_metrics.sglang.records import Value

PREFIX = "[2026-04-08 14:05:21 DP1 TP0] "
FROM_PREFIX: dict[str, Value] = {"date": "2026-04-08", "time": "14:05:21", "dp_rank": 1, "tp_rank": 0}


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [
        ("HiSparse: host mem pool alloc failed for 17 host pages (req_pool_idx=3, start_pos=0, num_tokens=1024)",
         EventKind.HOST_ALLOCATION_FAILED, {"host_pages": 17}),
        ("HiSparse: host mem pool alloc failed for 612 tokens (req 7f3a)",
         EventKind.HOST_ALLOCATION_FAILED, {"host_tokens": 612}),
        ("HiSparse: host mem pool alloc failed for 3 backup tokens",
         EventKind.HOST_ALLOCATION_FAILED, {"host_tokens": 3}),
        ("RuntimeError: HiSparse host mem pool alloc failed for 61234 tokens in _pre_alloc (req 7f3a)",
         EventKind.HOST_ALLOCATION_FAILED, {"host_tokens": 61234}),
        ("HiSparse: alloc_device_buffer failed for req 7f3a (compressed_len=10, alloc_size=4160)",
         EventKind.DEVICE_ALLOCATION_FAILED, {}),
        (("KV cache pool is full. Retract requests. #retracted_reqs: 2, #new_tokens_gained: 646, "
         "#new_token_ratio: 0.0980 -> 0.3487"), EventKind.RETRACTION, {"retracted_requests": 2}),
        ("Decode out of memory happened. #retracted_reqs: 1, #new_token_ratio: 0.9998 -> 1.0000",
         EventKind.RETRACTION, {"retracted_requests": 1}),
        (("HiSparse shared-index prefetch is unsupported under pipeline parallelism (pp_size=2); "
         "falling back to synchronous swap-in."), EventKind.SYNCHRONOUS_SWAP_IN, {}),
        ("The server is fired up and ready to roll!", EventKind.SERVER_READY, {}),
        ("Scheduler hit an exception: Traceback (most recent call last):", EventKind.SCHEDULER_EXCEPTION, {}),
        ("Received sigquit from a child process. It usually means the child failed.", EventKind.CRASH, {}),
        (("max_total_num_tokens=1547424, chunked_prefill_size=8192, max_prefill_tokens=16384, "
         "max_running_requests=2048, context_len=131072, available_gpu_mem=9.71 GB"), EventKind.CAPACITY,
         {"max_total_num_tokens": 1547424, "max_running_requests": 2048, "context_len": 131072}),
        ("KV Cache is allocated. #tokens: 6247850, K size: 71.50 GB, V size: 71.50 GB", EventKind.CAPACITY,
         {"kv_cache_tokens": 6247850}),
        ("KV Cache is allocated. dtype: torch.bfloat16, #tokens: 6247850, K size: 71.50 GB", EventKind.CAPACITY,
         {"kv_cache_tokens": 6247850}),
        ("Allocating 354.94 GB host memory for hierarchical KV cache.", EventKind.CAPACITY,
         {"host_gigabytes": 354.94}),
    ],
)  # fmt: skip
def test_line_is_an_event(text: str, kind: EventKind, numbers: dict[str, Value]) -> None:
    assert LogParser().feed(PREFIX + text) == [Event(1, kind, FROM_PREFIX | numbers)]


@pytest.mark.parametrize(
    "text",
    [
        'f"#retracted_reqs: {len(retracted_reqs)}"',
        "HiSparse: host mem pool alloc failed for %d host pages",
        "RuntimeError: HiSparse host mem pool alloc failed for 3 backup tokens",  # repeats the line logged before it
        "Draft model loaded: eagle, max_total_num_tokens=1547424",
        "server_args=ServerArgs(max_total_tokens=None)",
        "max_total_num_tokens=15474",  # cut
        "Allocating memory",
    ],
)
def test_line_is_no_event(text: str) -> None:
    assert LogParser().feed(PREFIX + text) == []
