"""Generators of SGLang log lines: records of every dialect, rendered as each version prints them, in any envelope."""

from __future__ import annotations

import json
from typing import NamedTuple

from hypothesis import strategies as st

from hisparse_metrics.sglang.records import Value

Values = dict[str, Value]
Pair = tuple[str, Values]

COUNTS = st.integers(0, 10**12)
HUNDREDTHS = st.integers(0, 10**9).map(lambda n: n / 100)
USAGES = st.integers(0, 100).map(lambda n: n / 100)
BACKENDS = st.sampled_from(("cuda", "cpu", "npu", "musa"))
RANK_ORDERS = (
    ("TP",), ("DP", "TP"), ("DP", "TP", "PP"), ("DP", "TP", "EP", "PP"), ("DP", "PP", "TP", "EP"),
    ("DP", "PP", "ATTN_CP", "MOE_DP", "TP", "EP"),
)  # fmt: skip


def count(name: str, key: str) -> st.SearchStrategy[Pair]:
    return COUNTS.map(lambda n: (f"{name}: {n}", {key: n}))


def decimal(
    name: str, key: str, numbers: st.SearchStrategy[float] = HUNDREDTHS, end: str = ""
) -> st.SearchStrategy[Pair]:
    return numbers.map(lambda x: (f"{name}: {x:.2f}{end}", {key: x}))


def usage(name: str, key: str) -> st.SearchStrategy[Pair]:
    return decimal(name, key, USAGES)


def join(*fields: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    """All of ``fields``, one after the other."""
    return st.tuples(*fields).map(
        lambda pairs: (
            ", ".join(text for text, _ in pairs if text),
            {key: value for _, values in pairs for key, value in values.items()},
        )
    )


def maybe(*fields: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.one_of(st.just(("", {})), join(*fields))


@st.composite
def interval(draw: st.DrawFn) -> Pair:
    key = "estimated_uncapped_accept_length"
    mid, low, high = draw(st.tuples(HUNDREDTHS, HUNDREDTHS, HUNDREDTHS))
    return f"est uncap acc len: {mid:.2f} [{low:.2f}, {high:.2f}]", {
        key: mid,
        f"{key}_low": low,
        f"{key}_high": high,
    }


GRAPH = st.tuples(BACKENDS, st.booleans()).map(
    lambda drawn: (f"{drawn[0]} graph: {drawn[1]}", {"graph_backend": drawn[0], "graph": drawn[1]})
)
PLAIN = join(count("#token", "tokens"), usage("token usage", "token_usage"))
FULL = join(count("#full token", "full_tokens"), usage("full token usage", "full_token_usage"))
SLIDING = join(FULL, count("#swa token", "swa_tokens"), usage("swa token usage", "swa_token_usage"))
MAMBA = join(count("mamba num", "mamba_slots"), usage("mamba usage", "mamba_usage"))
SPLIT = st.sampled_from((" ", "-")).flatmap(
    lambda gap: join(
        count(f"#gpu{gap}token", "device_tokens"),
        usage("gpu token usage", "device_token_usage"),
        count(f"#cpu{gap}token", "host_tokens"),
        usage("cpu token usage", "host_token_usage"),
    )
)
POOLS = st.one_of(
    PLAIN,
    SLIDING,
    join(FULL, MAMBA),
    join(SLIDING, MAMBA),
    SPLIT,
    join(SLIDING, SPLIT),
    join(FULL, MAMBA, SPLIT),
)
QUEUE = count("#queue-req", "waiting_requests")
RUNNING = count("#running-req", "running_requests")
SPECULATION = maybe(
    decimal("accept len", "accept_length"),
    usage("accept rate", "accept_rate"),
    maybe(decimal("cap len", "cap_length")),
    maybe(interval()),
)
TRANSFER = maybe(
    usage("pre-allocated usage", "preallocated_usage"),
    count("#prealloc-req", "preallocated_requests"),
    count("#transfer-req", "transfer_requests"),
    count("#retracted-req", "retracted_requests"),
)
OCCUPANCY = maybe(decimal("fwd occupancy", "forward_occupancy_percent", end="%"))
RATE = decimal("gen throughput (token/s)", "generation_throughput")
DECODE = join(RUNNING, POOLS, SPECULATION, TRANSFER, maybe(GRAPH), RATE, QUEUE, OCCUPANCY)
OLD_DECODE = join(RUNNING, PLAIN, RATE, count("largest-len", "largest_length"), QUEUE)
USAGES_ONLY = st.one_of(
    usage("token usage", "token_usage"),
    join(usage("full token usage", "full_token_usage"), usage("swa token usage", "swa_token_usage")),
    join(usage("full token usage", "full_token_usage"), usage("mamba usage", "mamba_usage")),
)
PREFILL_START = join(
    count("#new-seq", "new_sequences"),
    count("#new-token", "new_tokens"),
    count("#cached-token", "cached_tokens"),
    maybe(decimal("cache hit rate", "cache_hit_rate_percent", end="%")),
    USAGES_ONLY,
)
INPUT_RATE = decimal("input throughput (token/s)", "input_throughput")
PREFILL_END = st.one_of(join(GRAPH, INPUT_RATE), join(INPUT_RATE, GRAPH))
PREFILL = join(
    PREFILL_START,
    RUNNING,
    QUEUE,
    count("#pending-token", "pending_tokens"),
    maybe(count("#bootstrap-req", "bootstrap_requests"), count("#inflight-req", "inflight_requests")),
    PREFILL_END,
)


class Line(NamedTuple):
    """A line and what it says."""

    text: str
    values: Values


@st.composite
def prefixes(draw: st.DrawFn) -> Pair:
    date = draw(st.dates()).isoformat()
    time = draw(st.times()).strftime("%H:%M:%S") + draw(st.sampled_from(("", ".170")))
    order = draw(st.sampled_from(RANK_ORDERS))
    ranks = {name: draw(st.integers(0, 511)) for name in order if draw(st.booleans())}
    values = {f"{name.lower()}_rank": rank for name, rank in ranks.items()}
    words = [f"{name}{rank}" for name, rank in ranks.items()]
    match draw(st.sampled_from(("full", "old", "configured", "none"))):
        case "full":
            return f"[{' '.join([date, time, *words])}] ", values | {"date": date, "time": time}
        case "old":
            return f"[{' '.join([time, *words])}] ", values | {"time": time}
        case "configured":
            inside = " ".join([*words, "scheduler_metrics_mixin.py:222"])
            return f"{date} {time} INFO 31223 [{inside}] ", values | {"date": date, "time": time}
    return "", {}


@st.composite
def lines(draw: st.DrawFn) -> Line:
    prefix, from_prefix = draw(prefixes())
    iteration = draw(st.sampled_from(("", " [1234]")))
    word, separator, fields, end = draw(
        st.sampled_from(
            (
                ("Decode", ",", DECODE, ""),
                ("Decode", ",", DECODE, ", "),
                ("Decode", ".", DECODE, ""),
                ("Decode", ".", OLD_DECODE, ", "),
                ("Prefill", ",", PREFILL, ""),
                ("Prefill", ",", PREFILL, ", "),
                ("Prefill", ".", join(PREFILL_START, RUNNING, QUEUE), ""),
                ("Prefill", ",", join(PREFILL_START, RUNNING, QUEUE), ", "),
            )
        )
    )
    body, values = draw(fields)
    text = f"{prefix}{word} batch{iteration}{separator} {body}{end}"
    return Line(text, {"phase": word.lower(), **values, **from_prefix})


STAMP = "2026-08-23T09:10:52.123456789Z"
RAY: Values = {"ray_pid": 4182, "ray_ip": "10.0.0.7"}


def docker(text: str) -> str:
    return json.dumps({"log": text, "stream": "stderr", "time": STAMP})


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[list[str], Values]:
    """A line in one or two envelopes: the physical lines, and what they say together."""
    text, values = draw(lines())
    if draw(st.booleans()):
        text, values = f"(SGLangEngine pid=4182, ip=10.0.0.7) {text}", values | RAY
    if draw(st.booleans()):
        text = f"\x1b[36m{text}\x1b[0m"
    cut = draw(st.integers(0, len(text)))
    head, tail = text[:cut], text[cut:]
    return draw(
        st.sampled_from(
            (
                [text],
                [text + "\r"],
                ["\ufeff" + text],
                [f"10%|#  | 1/9\r{text}"],
                [f"{STAMP} stderr F {text}"],
                [f"{STAMP} stderr P {head}", f"{STAMP} stderr F {tail}"],
                [docker(text + "\n")],
                [docker(head), docker(tail + "\n")],
                [f"svc-1  | {text}"],
                [f"{STAMP} {text}"],
                [f"[pod/decode-0/sglang] {text}"],
                [f"[pod/decode-0/sglang] {STAMP} {text}"],
                [f"Aug 23 09:10:52 gpu-7 sglang[4182]: {text}"],
                [json.dumps({"MESSAGE": text})],
                [json.dumps({"MESSAGE": list(text.encode())})],
            )
        )
    ), values
