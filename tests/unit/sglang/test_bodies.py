from __future__ import annotations

import pytest

from hisparse_metrics.sglang.dialects import MAX_BODY, PHASES, MalformedError, read_body

DECODE = (
    "#running-req: 3, #gpu token: 20800, gpu token usage: 0.29, #cpu token: 41422, cpu token usage: 0.30, "
    "cuda graph: True, gen throughput (token/s): 71.32, #queue-req: 12"
)
PREFILL = "#new-seq: 1, #new-token: 7, #cached-token: 2, token usage: 0.01, #running-req: 0, #queue-req: 5"


def is_whole(text: str, phase: str = "Decode", separator: str = ",") -> bool:
    try:
        read_body(PHASES[phase], separator, text)
    except MalformedError:
        return False
    return True


def test_fields_are_found_by_name_in_any_order() -> None:
    reversed_body = ", ".join(reversed(DECODE.split(", ")))

    assert (
        read_body(PHASES["Decode"], ",", reversed_body + ",").values
        == read_body(PHASES["Decode"], ",", DECODE).values
    )


def test_unknown_fields_are_skipped_and_counted() -> None:
    body = read_body(PHASES["Decode"], ",", DECODE + ", #new-thing: 7, speed of light: 41.5% (bound: memory)")

    assert body.unknown_fields == 2
    assert body.values == read_body(PHASES["Decode"], ",", DECODE).values


def test_interval_in_brackets_is_three_values() -> None:
    body = read_body(PHASES["Decode"], ",", DECODE + ", est uncap acc len: 3.20 [2.90, 3.50]")

    assert body.values["estimated_uncapped_accept_length"] == 3.2
    assert body.values["estimated_uncapped_accept_length_low"] == 2.9
    assert body.values["estimated_uncapped_accept_length_high"] == 3.5


@pytest.mark.parametrize(
    ("whole", "spoilt"),
    [
        ("0.29", "0.2"), ("0.29", "0.290"), ("0.29", ".29"), ("0.29", "nan"), ("0.29", "0,29"), ("71.32", "71"),
        ("20800", "20800.0"), ("20800", "2O800"), ("20800", "٢"), ("20800", "1" * 19), ("20800", ""), ("True", "Tru"),
        ("True", "true"), (", #queue-req: 12", ""), ("gpu token usage: 0.29, ", ""), ("#running-req: 3, ", ""),
        ("#gpu token: 20800, gpu token usage: 0.29, #cpu token: 41422, cpu token usage: 0.30, ", ""),
        ("#running-req: 3", "#running-req: 3, #running-req: 3"), ("cuda graph: True", "cuda graph: True, npu graph: True"),
        ("#running-req: 3", "#running-req: 3, #cached-token: 3"), ("#running-req: 3", "#running-req: 3, oken usage"),
    ],
)  # fmt: skip
def test_one_bad_field_spoils_the_record(whole: str, spoilt: str) -> None:
    assert whole in DECODE
    assert not is_whole(DECODE.replace(whole, spoilt, 1))


def test_prefill_of_new_versions_does_not_end_in_a_count_unless_by_a_comma() -> None:
    assert is_whole(PREFILL, "Prefill", ".")
    assert is_whole(PREFILL + ", ", "Prefill", ",")
    assert is_whole(PREFILL + ", #pending-token: 3, cuda graph: False", "Prefill", ",")
    assert not is_whole(PREFILL, "Prefill", ",")
    assert not is_whole(PREFILL + ", #pending-token: 3", "Prefill", ".")


def test_prefill_of_a_prefill_server_without_running_requests_is_whole() -> None:
    text = (
        "#new-seq: 1, #new-token: 7, #cached-token: 2, token usage: 0.01, #unbootstrapped-req: 1, #queue-req: 5, "
        "#transferring-req: 4, input throughput (token/s): 8.25 "
    )
    values = read_body(PHASES["Prefill"], ".", text).values

    assert (values["unbootstrapped_requests"], values["transferring_requests"]) == (1, 4)
    assert values["input_throughput"] == 8.25


def test_a_body_has_a_greatest_length() -> None:
    assert not is_whole(DECODE + ", x: " + "y" * MAX_BODY)


def test_decode_superset_is_read_in_full() -> None:
    text = (
        "#running-req: 1, #full token: 2, full token usage: 0.03, #swa token: 4, swa token usage: 0.05, "
        "mamba num: 6, mamba usage: 0.07, #gpu token: 8, gpu token usage: 0.09, #cpu token: 10, "
        "cpu token usage: 0.11, accept len: 1.12, accept rate: 0.13, cap len: 1.14, block accept len: 1.15, "
        "est uncap acc len: 1.16 [1.17, 1.18], pre-allocated usage: 0.19, #prealloc-req: 20, #transfer-req: 21, "
        "#host-receive-req: 22, #retracted-req: 23, waiting-image-req: 24, musa graph: False, "
        "gen throughput (token/s): 25.26, #queue-req: 27, est. decode TFLOPS/s (per GPU): 28.29, "
        "est. read BW (GB/s per GPU): 30.31, est. write BW (GB/s per GPU): 32.33, fwd occupancy: 34.35%, "
        "fwd+idle occupancy: 36.37%"
    )
    body = read_body(PHASES["Decode"], ",", text)

    assert body.unknown_fields == 0
    assert body.values == {
        "phase": "decode", "running_requests": 1, "full_tokens": 2, "full_token_usage": 0.03, "swa_tokens": 4,
        "swa_token_usage": 0.05, "mamba_slots": 6, "mamba_usage": 0.07, "device_tokens": 8,
        "device_token_usage": 0.09, "host_tokens": 10, "host_token_usage": 0.11, "accept_length": 1.12,
        "accept_rate": 0.13, "cap_length": 1.14, "block_accept_length": 1.15,
        "estimated_uncapped_accept_length": 1.16, "estimated_uncapped_accept_length_low": 1.17,
        "estimated_uncapped_accept_length_high": 1.18, "preallocated_usage": 0.19, "preallocated_requests": 20,
        "transfer_requests": 21, "host_receive_requests": 22, "retracted_requests": 23,
        "waiting_image_requests": 24, "graph_backend": "musa", "graph": False, "generation_throughput": 25.26,
        "waiting_requests": 27, "estimated_decode_tflops_per_gpu": 28.29,
        "estimated_read_gb_per_second_per_gpu": 30.31, "estimated_write_gb_per_second_per_gpu": 32.33,
        "forward_occupancy_percent": 34.35, "forward_idle_occupancy_percent": 36.37,
    }  # fmt: skip
