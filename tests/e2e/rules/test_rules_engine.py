"""The alerts about the engine and about the truth, by promtool: each not yet, firing with its exact words, resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rule_tests import (
    LOG,
    LOG_RANK,
    LOG_WHO,
    RANK,
    TARGET,
    VLLM,
    VLLM_RANK,
    VLLM_TARGET,
    VLLM_WHO,
    WHO,
    Firing,
    Moment,
    Scenario,
    of,
    run,
)  # fmt: skip

DOWN, STALLED, STORM, ABSENT = (
    "HiSparseEngineDown", "HiSparseEngineStalled", "HiSparseRetractionStorm", "HiSparseMetricsAbsent",
)  # fmt: skip
MISMATCH, VIOLATION = "HiSparseVerifyMismatch", "HiSparseInvariantViolation"
SGLANG = LOG_RANK | {"engine": "sglang"}
VLLM_LABELS = VLLM_RANK | {"engine": "vllm"}


# --- down ---


def test_down_fires_when_the_engine_dies_and_its_exporter_lives(tmp_path: Path) -> None:
    down = Firing("critical", "host:9477 hisparse: engine or exporter down (up = 0)")
    run(
        tmp_path,
        of(RANK, {"hisparse_engine_up": "1x4 0x9 1x9"}) | of(TARGET, {"up": "1x30"}),
        Moment("5m", DOWN),
        Moment("6m", DOWN, (down,)),
        Moment("14m", DOWN, (down,)),
        Moment("15m", DOWN),
    )


@pytest.mark.parametrize("job", ["hisparse", "hisparse-engines"])
def test_down_fires_when_the_exporter_cannot_be_reached(tmp_path: Path, job: str) -> None:
    target = {"job": job, "instance": "host:9477"}
    down = Firing("critical", "host:9477: engine or exporter down (up = 0)", target)
    run(
        tmp_path,
        of(target, {"up": "1x4 0x9 1x9"}),
        Moment("5m", DOWN),
        Moment("6m", DOWN, (down,)),
        Moment("15m", DOWN),
    )


def test_another_job_that_is_down_is_not_ours(tmp_path: Path) -> None:
    run(tmp_path, of({"job": "node", "instance": "host:9100"}, {"up": "0x60"}), Moment("30m", DOWN))


def test_a_dead_log_fires_until_it_is_forgotten(tmp_path: Path) -> None:
    down = Firing("critical", "host:9477 sglang: engine or exporter down (up = 0)", SGLANG)
    run(
        tmp_path,
        of(LOG_RANK, {
            "hisparse_engine_up": "1x4 0x120",
            "hisparse_engine_last_step_timestamp_seconds": "0+60x4 240x120",
        }),
        Moment("5m", DOWN),
        Moment("6m", DOWN, (down,)),
        Moment("60m", DOWN, (down,)),
        Moment("66m", DOWN),
    )  # fmt: skip


def test_a_vllm_that_was_seen_within_the_hour_is_judged_by_its_scrapes(tmp_path: Path) -> None:
    down = Firing("critical", "host:8000 vllm: engine or exporter down (up = 0)", VLLM_LABELS)
    run(
        tmp_path,
        of(VLLM, {"vllm:hisparse_host_cache_usage_perc": "0.5x9 stale"})
        | of(VLLM_TARGET, {"up": "1x9 0x100"}),
        Moment("10m", DOWN),
        Moment("11m", DOWN, (down,)),
        Moment("60m", DOWN, (down,)),
        Moment("75m", DOWN),
    )


def test_a_vllm_without_a_host_cache_is_not_ours(tmp_path: Path) -> None:
    other = of(VLLM, {"vllm:num_requests_running": "3x60", "vllm:generation_tokens_total": "7x60"})
    run(tmp_path, other | of(VLLM_TARGET, {"up": "0x60"}), Moment("30m", DOWN), Moment("30m", STALLED))


# --- stalled ---


def steps(last_step: str, running: str = "2x60", up: str = "1x60") -> Scenario:
    """promtool's clock starts at 0, so a last step at second 300 is five minutes into the scenario."""
    return of(RANK, {
        "hisparse_engine_last_step_timestamp_seconds": last_step,
        "hisparse_running_requests": running,
        "hisparse_engine_up": up,
    })  # fmt: skip


def stalled(duration: str) -> tuple[Firing, ...]:
    return (Firing("critical", f"{WHO}: no decode step for {duration} while there is work"),)


def test_stalled_fires_when_running_requests_get_no_step(tmp_path: Path) -> None:
    run(
        tmp_path,
        steps("0+60x5 300x9 900+60x20"),
        Moment("5m", STALLED),
        Moment("7m", STALLED),
        Moment("8m", STALLED, stalled("3m 0s")),
        Moment("15m", STALLED, stalled("10m 0s")),
        Moment("16m", STALLED),
    )


def test_an_idle_engine_is_not_stalled(tmp_path: Path) -> None:
    run(tmp_path, steps("0x60", running="0x60"), Moment("50m", STALLED))


def test_a_dead_engine_is_down_and_not_stalled(tmp_path: Path) -> None:
    run(tmp_path, steps("0x60", up="0x60"), Moment("50m", STALLED))


def test_stalled_by_a_log_whose_last_record_left_requests_waiting(tmp_path: Path) -> None:
    fired = Firing("critical", f"{LOG_WHO}: no decode step for 4m 0s while there is work", SGLANG)
    run(
        tmp_path,
        of(LOG_RANK, {"hisparse_engine_last_step_timestamp_seconds": "120x30"})
        | of(LOG, {'hisparse_source_state{state="stalled"': "0x4 1x5 0x20"}),
        Moment("5m", STALLED),
        Moment("6m", STALLED, (fired,)),
        Moment("11m", STALLED),
    )


def test_stalled_by_a_vllm_that_generates_nothing(tmp_path: Path) -> None:
    fired = Firing("critical", f"{VLLM_WHO}: 3 running requests, and no new token for 2m", VLLM_LABELS)
    run(
        tmp_path,
        of(VLLM, {
            "vllm:hisparse_host_cache_usage_perc": "0.5x60",
            "vllm:num_requests_running": "3x60",
            "vllm:generation_tokens_total": "0+100x5 500x9 600+100x20",
        }),
        Moment("5m", STALLED),
        Moment("8m", STALLED, (fired,)),
        Moment("14m", STALLED, (fired,)),
        Moment("17m", STALLED),
    )  # fmt: skip


# --- retractions, absence ---


def test_a_retraction_storm(tmp_path: Path) -> None:
    storm = Firing("warning", f"{WHO}: 10 retractions a minute")
    run(
        tmp_path,
        of(RANK, {"hisparse_retractions_total": "0x9 0+10x20 200x20"}),
        Moment("10m", STORM),
        Moment("20m", STORM, (storm,)),
        Moment("40m", STORM),
    )


def test_a_retraction_now_and_then_is_what_the_policy_allows(tmp_path: Path) -> None:
    run(tmp_path, of(RANK, {"hisparse_retractions_total": "0+5x60"}), Moment("59m", STORM))


def test_preemptions_of_vllm_are_retractions(tmp_path: Path) -> None:
    storm = Firing("warning", f"{VLLM_WHO}: 12 retractions a minute", VLLM_LABELS)
    run(
        tmp_path,
        of(VLLM, {"vllm:num_preemptions_total": "0+12x60", "vllm:hisparse_host_blocks_usage": "0.5x60"}),
        Moment("12m", STORM, (storm,)),
    )


def test_absent_fires_when_nothing_is_known_at_all(tmp_path: Path) -> None:
    absent = Firing("warning", "no HiSparse engine and no followed log is known (absent = 1)", {})
    run(
        tmp_path,
        of(RANK, {"hisparse_engine_up": "_x14 1x9"}),
        Moment("9m", ABSENT),
        Moment("10m", ABSENT, (absent,)),
        Moment("15m", ABSENT),
    )


def test_a_followed_log_is_enough_to_be_present(tmp_path: Path) -> None:
    run(tmp_path, of(LOG, {"hisparse_source_up": "1x60"}), Moment("50m", ABSENT))


# --- truth ---


@pytest.mark.parametrize(
    ("alert", "metric", "summary"),
    [
        (MISMATCH, "hisparse_verify_mismatches_total", "2 sampled rows on the device differed from their host rows"),
        (VIOLATION, "hisparse_invariant_violations_total", "2 audits found a pool whose account does not add up"),
    ],
)  # fmt: skip
def test_one_failure_of_the_truth_fires_at_once_and_stays_until_the_restart(
    tmp_path: Path, alert: str, metric: str, summary: str
) -> None:
    fired = Firing("critical", f"{WHO}: {summary}")
    run(
        tmp_path,
        of(RANK, {metric: "0x4 2x60 0x9"}),
        Moment("4m", alert),
        Moment("5m", alert, (fired,)),
        Moment("60m", alert, (fired,)),
        Moment("66m", alert),
    )
