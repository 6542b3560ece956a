"""The alerts about followed logs, by promtool: each not yet, firing with its exact words, resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rule_tests import LOG, Firing, Moment, Scenario, of, run

UNREADABLE, UNKNOWN, STALE = "HiSparseSourceUnreadable", "HiSparseLogFormatUnknown", "HiSparseSourceStale"
WHO = "host:9477: /var/log/sglang.log"


def test_unreadable_fires_after_two_minutes_and_resolves(tmp_path: Path) -> None:
    unreadable = Firing("warning", f"{WHO} cannot be read (up = 0)", LOG)
    run(
        tmp_path,
        of(LOG, {"hisparse_source_up": "1x4 0x9 1x9"}),
        Moment("6m", UNREADABLE),
        Moment("7m", UNREADABLE, (unreadable,)),
        Moment("15m", UNREADABLE),
    )


def lines(parsed: str, ignored: str, malformed: str) -> Scenario:
    return of(LOG, {
        'hisparse_source_lines_total{outcome="parsed"': parsed,
        'hisparse_source_lines_total{outcome="ignored"': ignored,
        'hisparse_source_lines_total{outcome="malformed"': malformed,
    })  # fmt: skip


def unknown(count: str) -> tuple[Firing, ...]:
    return (Firing("warning", f"{WHO}: {count} lines read and none understood", LOG),)


def test_a_log_of_which_nothing_was_ever_understood(tmp_path: Path) -> None:
    run(
        tmp_path,
        lines("0x20 1x20", "0+1000x60", "0x60"),
        Moment("15m", UNKNOWN),
        Moment("16m", UNKNOWN, unknown("16k")),
        Moment("22m", UNKNOWN),
    )


def test_a_log_whose_engine_said_that_it_is_ready_is_known(tmp_path: Path) -> None:
    ready = of(LOG, {"hisparse_engine_starts_total": "1x60"})
    run(tmp_path, lines("0x60", "0+1000x60", "0x60") | ready, Moment("50m", UNKNOWN))


def test_records_that_are_all_malformed_since_an_upgrade(tmp_path: Path) -> None:
    run(
        tmp_path,
        lines("0+10x20 200x60", "0x80", "0x20 0+10x60"),
        Moment("20m", UNKNOWN),
        Moment("50m", UNKNOWN, unknown("150")),
    )


@pytest.mark.parametrize(
    ("why", "scenario"),
    [
        ("an idle server prints health checks", lines("100x90", "0+1000x90", "0x90")),
        ("a torn line now and then", lines("0+10x90", "0+100x90", "0+2x90")),
        ("a log that has only begun", lines("0x90", "0+100x90", "0x90")),
    ],
)
def test_a_log_that_is_understood_is_quiet(tmp_path: Path, why: str, scenario: Scenario) -> None:
    run(tmp_path, scenario, *(Moment(f"{minute}m", UNKNOWN) for minute in range(0, 90, 5)))


def silent(last_sample: str, state: str) -> Scenario:
    return of(LOG, {
        "hisparse_source_last_sample_timestamp_seconds": last_sample,
        'hisparse_source_state{state="silent"': state,
    })  # fmt: skip


def test_stale_fires_when_a_log_falls_silent_and_resolves_with_its_next_record(tmp_path: Path) -> None:
    stale = Firing("warning", f"{WHO}: no record for 22m 0s, and no other line either", LOG)
    run(
        tmp_path,
        silent("0+60x10 600x30 2400+60x20", "0x11 1x29 0x20"),
        Moment("30m", STALE),
        Moment("32m", STALE, (stale,)),
        Moment("42m", STALE),
    )


def test_an_idle_engine_whose_health_checks_are_logged_is_not_stale(tmp_path: Path) -> None:
    run(tmp_path, silent("0x90", "0x90"), Moment("80m", STALE))


def test_a_log_that_is_not_written_any_more_is_forgotten_after_a_day(tmp_path: Path) -> None:
    stale = Firing("warning", f"{WHO}: no record for 23h 0m 0s, and no other line either", LOG)
    run(tmp_path, silent("0x1600", "1x1600"), Moment("1380m", STALE, (stale,)), Moment("1441m", STALE))
