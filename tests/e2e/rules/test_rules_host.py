"""The alerts about the host pool, by promtool: each not yet, firing with its exact words, resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rule_tests import (
    LOG_RANK,
    LOG_WHO,
    RANK,
    VLLM,
    VLLM_RANK,
    VLLM_WHO,
    WHO,
    Firing,
    Moment,
    Scenario,
    of,
    run,
)

HIGH, FULL, PREDICTED = "HiSparseHostUsageHigh", "HiSparseHostPoolFull", "HiSparseHostExhaustionPredicted"
SGLANG = LOG_RANK | {"engine": "sglang"}
VLLM_LABELS = VLLM_RANK | {"engine": "vllm"}


# --- usage ---


def usage(values: str, capacity: str = "1000x60") -> Scenario:
    return of(RANK, {"hisparse_host_token_usage": values, "hisparse_host_token_capacity": capacity})


def test_usage_warns_after_five_minutes_and_resolves(tmp_path: Path) -> None:
    high = Firing("warning", f"{WHO}: host pool 90% full")
    run(
        tmp_path,
        usage("0.5x4 0.9x9 0.5x9"),
        Moment("5m", HIGH),
        Moment("9m", HIGH),
        Moment("10m", HIGH, (high,)),
        Moment("14m", HIGH, (high,)),
        Moment("15m", HIGH),
    )


def test_usage_is_critical_after_two_minutes_and_falls_back_to_warning(tmp_path: Path) -> None:
    critical = Firing("critical", f"{WHO}: host pool 96% full")
    run(
        tmp_path,
        usage("0.96x9 0.9x9 0.1x9"),
        Moment("1m", HIGH),
        Moment("2m", HIGH, (critical,)),
        Moment("9m", HIGH, (critical, Firing("warning", f"{WHO}: host pool 96% full"))),
        Moment("10m", HIGH, (Firing("warning", f"{WHO}: host pool 90% full"),)),
        Moment("20m", HIGH),
    )


def test_usage_at_the_threshold_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, usage("0.85x30"), Moment("30m", HIGH))


def test_a_pool_that_does_not_exist_is_never_full(tmp_path: Path) -> None:
    run(tmp_path, usage("0.99x30", capacity="0x30"), Moment("30m", HIGH))


def test_usage_of_a_log_needs_no_capacity(tmp_path: Path) -> None:
    run(
        tmp_path,
        of(LOG_RANK, {"hisparse_host_token_usage": "0.97x30"}),
        Moment("2m", HIGH, (Firing("critical", f"{LOG_WHO}: host pool 97% full", SGLANG),)),
    )


def test_usage_of_vllm_that_counts_evictable_blocks_as_free(tmp_path: Path) -> None:
    run(
        tmp_path,
        of(VLLM, {"vllm:hisparse_host_cache_usage_perc": "0.97x30"}),
        Moment("2m", HIGH, (Firing("critical", f"{VLLM_WHO}: host pool 97% full", VLLM_LABELS),)),
    )


@pytest.mark.parametrize(
    "series",
    [
        {"vllm:hisparse_host_blocks_usage": "0.97x30"},
        {"vllm:hisparse_host_blocks_used": "97x30", "vllm:hisparse_host_blocks_total": "100x30"},
    ],
)
def test_a_warm_cache_of_vllm_whose_blocks_count_as_used_is_quiet(
    tmp_path: Path, series: dict[str, str]
) -> None:
    waiting = {"vllm:num_requests_waiting": "3x30", "vllm:num_requests_running": "3x30"}
    run(tmp_path, of(VLLM, series | waiting), Moment("20m", HIGH), Moment("20m", FULL))


# --- full ---


def pool(used: str, reserved: str, waiting: str, rejected: str = "0x60") -> Scenario:
    return of(RANK, {
        "hisparse_host_tokens": used,
        "hisparse_host_tokens_reserved": reserved,
        "hisparse_host_token_capacity": "1000x60",
        "hisparse_waiting_requests": waiting,
        'hisparse_requests_total{outcome="rejected"}': rejected,
    })  # fmt: skip


def full(percent: int) -> tuple[Firing, ...]:
    summary = f"{WHO}: {percent}% of the host pool is used or promised, and requests wait or are refused"
    return (Firing("critical", summary),)


def test_full_fires_when_used_and_promised_fill_the_pool_and_requests_wait(tmp_path: Path) -> None:
    run(
        tmp_path,
        pool("600x60", "100x4 400x9 100x9", "3x60"),
        Moment("6m", FULL),
        Moment("7m", FULL, full(100)),
        Moment("14m", FULL, full(100)),
        Moment("15m", FULL),
    )


def test_full_fires_on_use_alone(tmp_path: Path) -> None:
    run(tmp_path, pool("990x60", "0x60", "1x60"), Moment("2m", FULL, full(99)))


def test_full_fires_when_requests_are_refused_though_none_waits(tmp_path: Path) -> None:
    run(
        tmp_path,
        pool("990x60", "0x60", "0x60", rejected="0x9 0+1x60"),
        Moment("9m", FULL),
        Moment("13m", FULL, full(99)),
    )


def test_full_fires_when_one_more_request_like_those_that_run_does_not_fit(tmp_path: Path) -> None:
    running = of(RANK, {"hisparse_running_requests": "3x60"})
    run(tmp_path, pool("900x60", "60x60", "5x60") | running, Moment("2m", FULL, full(96)))


def test_room_for_one_more_request_is_quiet(tmp_path: Path) -> None:
    running = of(RANK, {"hisparse_running_requests": "30x60"})
    run(tmp_path, pool("900x60", "60x60", "5x60") | running, Moment("50m", FULL))


def test_a_full_pool_that_nobody_waits_for_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, pool("600x60", "400x60", "0x60"), Moment("30m", FULL))


def test_a_queue_beside_a_pool_with_room_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, pool("600x60", "300x60", "5x60"), Moment("30m", FULL))


def test_a_rank_with_room_is_not_blamed_for_the_queue_of_another(tmp_path: Path) -> None:
    other = of(RANK | {"dp_rank": "1"}, {"hisparse_waiting_requests": "9x60"})
    run(tmp_path, pool("600x60", "400x60", "0x60") | other, Moment("30m", FULL))


def test_a_failed_allocation_of_sglang_fires_at_once_and_stays_while_it_is_recent(tmp_path: Path) -> None:
    failed = Firing("critical", f"{LOG_WHO}: 1 failed host allocations in 5m", SGLANG)
    run(
        tmp_path,
        of(
            LOG_RANK,
            {"hisparse_host_allocation_failures_total": "0x4 1x40", "hisparse_host_token_usage": "0.6x40"},
        ),
        Moment("4m", FULL),
        Moment("5m", FULL, (failed,)),
        Moment("8m", FULL, (failed,)),
        Moment("10m", FULL),
    )


# --- predicted ---


def predicted(duration: str) -> tuple[Firing, ...]:
    return (Firing("warning", f"{WHO}: host pool full in {duration} if it goes on filling like this"),)


def test_a_pool_that_fills_is_announced_before_it_is_full_and_no_more_after_a_drop(tmp_path: Path) -> None:
    """1 % a minute from 20 %: at 70 % half an hour is left."""
    run(
        tmp_path,
        usage("0.2003+0.01x60 0.3x30", capacity="1000x120"),
        Moment("45m", PREDICTED),
        Moment("60m", PREDICTED, predicted("19m 58s")),
        Moment("61m", PREDICTED),
        Moment("80m", PREDICTED),
    )


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("flat at 80 %", "0.8x120"),
        ("trembling around 80 %", "0.8 0.81 0.79 " * 40),
        ("falling", "0.95-0.005x120"),
        ("filling too slowly to matter", "0.6+0.001x120"),
        ("just started: steep, but nearly empty", "0+0.02x20 0.4x100"),
        ("a step up, then flat", "0.55x30 0.85x90"),
    ],
)  # fmt: skip
def test_a_pool_that_does_not_fill_up_is_not_announced(tmp_path: Path, shape: str, values: str) -> None:
    moments = [Moment(f"{minute}m", PREDICTED) for minute in range(1, 120)]
    run(tmp_path, usage(values, capacity="1000x130"), *moments)
