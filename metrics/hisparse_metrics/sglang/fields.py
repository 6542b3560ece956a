"""The fields of SGLang's decode and prefill lines: printed name, exact form of the value, the keys that it means.

A form has one group a key. It accepts whole values only: usages and rates always have two decimals, so ``0.0`` that
was cut from ``0.08`` is no value. A new field of a new version is one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hisparse_metrics.sglang.records import Value

_COUNT = r"(-?[0-9]{1,18})"
_DECIMAL = r"(-?[0-9]{1,18}\.[0-9]{2})"
_BOOL = r"(True|False)"


def read_bool(text: str) -> bool:
    """Read Python's spelling."""
    return text == "True"


@dataclass(frozen=True, slots=True)
class Field:
    """``form`` has one group for each of ``keys``, all read by ``read``; ``constants`` come with the name itself.

    ``is_closed``: a shorter text of this form cannot be the value cut short.
    """

    keys: tuple[str, ...]
    form: str
    read: Callable[[str], Value]
    is_closed: bool = True
    constants: Mapping[str, Value] = field(default_factory=dict)


def _count(key: str) -> Field:
    return Field((key,), _COUNT, int, is_closed=False)


def _decimal(key: str) -> Field:
    return Field((key,), _DECIMAL, float)


def _percent(key: str) -> Field:
    return Field((key,), _DECIMAL + "%", float)


def _graph(backend: str) -> Field:
    return Field(("graph",), _BOOL, read_bool, constants={"graph_backend": backend})


_BACKENDS = ("cuda", "cpu", "npu", "musa", "xpu", "hpu", "mps", "hip")
_COMMON = {
    "#running-req": _count("running_requests"),
    "#queue-req": _count("waiting_requests"),
    "token usage": _decimal("token_usage"),
    "full token usage": _decimal("full_token_usage"),
    "swa token usage": _decimal("swa_token_usage"),
    "mamba usage": _decimal("mamba_usage"),
    "#prealloc-req": _count("preallocated_requests"),
    "waiting-image-req": _count("waiting_image_requests"),
    "fwd occupancy": _percent("forward_occupancy_percent"),
    "fwd+idle occupancy": _percent("forward_idle_occupancy_percent"),
    **{f"{backend} graph": _graph(backend) for backend in _BACKENDS},
}
_SPLIT = {
    "gpu token usage": _decimal("device_token_usage"),
    "cpu token usage": _decimal("host_token_usage"),
    **dict.fromkeys(("#gpu token", "#gpu-token"), _count("device_tokens")),
    **dict.fromkeys(("#cpu token", "#cpu-token"), _count("host_tokens")),
}
_UNCAPPED = "estimated_uncapped_accept_length"
_SPECULATION = {
    "accept len": _decimal("accept_length"),
    "accept rate": _decimal("accept_rate"),
    "cap len": _decimal("cap_length"),
    "block accept len": _decimal("block_accept_length"),
    "est uncap acc len": Field(
        (_UNCAPPED, f"{_UNCAPPED}_low", f"{_UNCAPPED}_high"),
        rf"{_DECIMAL} \[{_DECIMAL}, {_DECIMAL}\]",
        float,
    ),
}

DECODE: Mapping[str, Field] = {
    **_COMMON,
    **_SPLIT,
    **_SPECULATION,
    "#token": _count("tokens"),
    "#full token": _count("full_tokens"),
    "#swa token": _count("swa_tokens"),
    "mamba num": _count("mamba_slots"),
    "largest-len": _count("largest_length"),
    "pre-allocated usage": _decimal("preallocated_usage"),
    "#transfer-req": _count("transfer_requests"),
    "#host-receive-req": _count("host_receive_requests"),
    "#retracted-req": _count("retracted_requests"),
    "gen throughput (token/s)": _decimal("generation_throughput"),
    "est. decode TFLOPS/s (per GPU)": _decimal("estimated_decode_tflops_per_gpu"),
    "est. read BW (GB/s per GPU)": _decimal("estimated_read_gb_per_second_per_gpu"),
    "est. write BW (GB/s per GPU)": _decimal("estimated_write_gb_per_second_per_gpu"),
}

PREFILL: Mapping[str, Field] = {
    **_COMMON,
    "#new-seq": _count("new_sequences"),
    "#new-token": _count("new_tokens"),
    "#cached-token": _count("cached_tokens"),
    "cache hit rate": _percent("cache_hit_rate_percent"),
    "#pending-token": _count("pending_tokens"),
    "#replay-token": _count("replay_tokens"),
    "#bootstrap-req": _count("bootstrap_requests"),
    "#unbootstrapped-req": _count("unbootstrapped_requests"),
    "#inflight-req": _count("inflight_requests"),
    "#transferring-req": _count("transferring_requests"),
    "#optimistic-req": _count("optimistic_requests"),
    "input throughput (token/s)": _decimal("input_throughput"),
    "est. prefill TFLOPS/s (per GPU)": _decimal("estimated_prefill_tflops_per_gpu"),
}
