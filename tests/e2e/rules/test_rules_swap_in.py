"""The alerts about the way between the tiers, by promtool: each not yet, firing with its exact words, resolved."""

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
    Labels,
    Moment,
    Scenario,
    of,
    run,
)

BACKUP, SATURATED, THRASHING = (
    "HiSparseBackupStalled", "HiSparseDeviceUsageSaturated", "HiSparseHotBufferThrashing",
)  # fmt: skip
VLLM_LABELS = VLLM_RANK | {"engine": "vllm"}
OUR_LABELS = RANK | {"engine": "hisparse"}
GB = 1_000_000_000 * 60
"""A gigabyte a second, in bytes a minute."""


WORKING = {"vllm:num_requests_running": "2x60", "vllm:hisparse_host_blocks_usage": "0.5x60"}


# --- backup ---


def generating(device_to_host: str, host_capacity: str = "1000x60") -> Scenario:
    return of(RANK, {
        "hisparse_generation_tokens_total": "0+600x60",
        "hisparse_device_to_host_bytes_total": device_to_host,
        "hisparse_host_token_capacity": host_capacity,
    })  # fmt: skip


def test_backup_stalled_fires_when_tokens_are_generated_and_no_row_goes_home(tmp_path: Path) -> None:
    stalled = Firing("critical", f"{WHO}: 10 tokens/s are generated and no row is backed up")
    run(
        tmp_path,
        generating("0+7e5x9 6.3e6x20 7e6+7e5x20"),
        Moment("14m", BACKUP),
        Moment("20m", BACKUP, (stalled,)),
        Moment("40m", BACKUP),
    )


def test_in_resident_mode_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    run(tmp_path, generating("0x60", host_capacity="0x60"), Moment("50m", BACKUP))


@pytest.mark.parametrize("metric", ["vllm:hisparse_pending_page_transfers", "vllm:hisparse_pending_spills"])
def test_pages_of_vllm_that_do_not_move(tmp_path: Path, metric: str) -> None:
    stalled = Firing(
        "critical", f"{VLLM_WHO}: 7 pages wait for the host, unchanged for 10 minutes", VLLM_LABELS
    )
    run(
        tmp_path,
        of(VLLM, {metric: "3 5 4 6 2 7x40 1 2 3 0 4 5 1"} | WORKING),
        Moment("18m", BACKUP),
        Moment("25m", BACKUP, (stalled,)),
        Moment("48m", BACKUP),
    )


def test_an_idle_vllm_keeps_its_last_number_of_pages(tmp_path: Path) -> None:
    idle = WORKING | {"vllm:num_requests_running": "0x60"}
    run(tmp_path, of(VLLM, {"vllm:hisparse_pending_spills": "7x60"} | idle), Moment("50m", BACKUP))


def test_an_empty_queue_of_vllm_is_no_stalled_one(tmp_path: Path) -> None:
    run(tmp_path, of(VLLM, {"vllm:hisparse_pending_page_transfers": "0x60"}), Moment("50m", BACKUP))


# --- device usage ---


def device(used: str, waiting: str, host: str = "500x60", spare: str = "0x60") -> Scenario:
    return of(RANK, {
        "hisparse_device_tokens": used,
        "hisparse_device_tokens_spare": spare,
        "hisparse_device_token_capacity": "100x60",
        "hisparse_waiting_requests": waiting,
        "hisparse_host_tokens": host,
        "hisparse_host_tokens_reserved": "0x60",
        "hisparse_host_token_capacity": "1000x60",
    })  # fmt: skip


def saturated(share: str, who: str = WHO, labels: Labels = OUR_LABELS) -> Firing:
    text = f"{who}: device pool {share} committed and requests wait, though the host pool has room"
    return Firing("warning", text, labels)


def test_a_full_device_pool_fires_when_requests_wait_though_the_host_has_room(tmp_path: Path) -> None:
    run(
        tmp_path,
        device("50x4 100x30 50x20", "2x60"),
        Moment("14m", SATURATED),
        Moment("15m", SATURATED, (saturated("100%"),)),
        Moment("36m", SATURATED),
    )


def test_a_pool_full_of_spare_is_quiet_until_it_is_full_of_bases(tmp_path: Path) -> None:
    run(
        tmp_path,
        device("100x60", "2x60", spare="60x24 1x30"),
        Moment("24m", SATURATED),
        Moment("34m", SATURATED),
        Moment("35m", SATURATED, (saturated("99%"),)),
    )


def test_an_engine_that_does_not_tell_what_is_spare_is_judged_by_its_usage(tmp_path: Path) -> None:
    scenario = device("100x60", "2x60", spare="_x60")
    run(tmp_path, scenario, Moment("15m", SATURATED, (saturated("100%"),)))


def test_a_device_pool_of_sglang_is_judged_by_its_usage(tmp_path: Path) -> None:
    usages = {"hisparse_device_token_usage": "1x60", "hisparse_host_token_usage": "0.5x60"}
    alive = {"hisparse_engine_up": "1x60", "hisparse_waiting_requests": "2x60"}
    run(
        tmp_path,
        of(LOG_RANK, usages | alive),
        Moment("15m", SATURATED, (saturated("100%", LOG_WHO, LOG_RANK | {"engine": "sglang"}),)),
    )


@pytest.mark.parametrize(
    ("why", "scenario"),
    [
        ("full is normal", device("100x60", "0x60")),
        ("the host pool is what is full", device("100x60", "2x60", host="990x60")),
        ("others would give back what they hold", device("100x60", "2x60", spare="3x60")),
        ("there is room", device("90x60", "2x60")),
    ],
)
def test_a_device_pool_that_keeps_nobody_waiting_is_quiet(
    tmp_path: Path, why: str, scenario: Scenario
) -> None:
    run(tmp_path, scenario, Moment("50m", SATURATED))


# --- thrashing ---


def swapping(misses: int, gigabytes_a_second: int) -> Scenario:
    return of(RANK, {
        "hisparse_swap_in_lookups_total": "0+1000x60",
        "hisparse_swap_in_hits_total": f"0+{1000 - misses}x60",
        "hisparse_host_to_device_bytes_total": f"0+{gigabytes_a_second * GB}x60",
    })  # fmt: skip


def test_thrashing_fires_when_rows_miss_and_the_link_is_busy(tmp_path: Path) -> None:
    thrashing = Firing("warning", f"{WHO}: 30% of the top-k rows miss the hot buffer")
    run(tmp_path, swapping(300, 40), Moment("13m", THRASHING), Moment("15m", THRASHING, (thrashing,)))


@pytest.mark.parametrize(("misses", "gigabytes"), [(300, 20), (100, 40)])
def test_misses_on_an_idle_link_and_a_busy_link_without_misses_are_quiet(
    tmp_path: Path, misses: int, gigabytes: int
) -> None:
    run(tmp_path, swapping(misses, gigabytes), Moment("50m", THRASHING))


def test_the_links_of_all_ranks_of_a_vllm_may_carry_more(tmp_path: Path) -> None:
    moving = {
        "vllm:hisparse_cache_hits_total": "0+750x60",
        "vllm:hisparse_cache_misses_total": "0+250x60",
        "vllm:hisparse_host_to_device_bytes_total": f"0+{40 * GB}x60",
    }
    run(tmp_path, of(VLLM, moving), Moment("50m", THRASHING))


def test_thrashing_by_the_counters_of_vllm(tmp_path: Path) -> None:
    thrashing = Firing("warning", f"{VLLM_WHO}: 25% of the top-k rows miss the hot buffer", VLLM_LABELS)
    run(
        tmp_path,
        of(VLLM, {
            "vllm:hisparse_cache_hits_total": "0+750x60",
            "vllm:hisparse_cache_misses_total": "0+250x60",
            "vllm:hisparse_host_to_device_bytes_total": f"0+{8 * 40 * GB}x60",
        }),
        Moment("30m", THRASHING, (thrashing,)),
    )  # fmt: skip
