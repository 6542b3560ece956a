"""The alert about index keys, by promtool: not yet, firing with its exact words, resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rule_tests import RANK, WHO, Firing, Moment, Scenario, of, run

FULL = "HiSparseIndexPoolFull"


def keys(
    used: str, reserved: str = "0x60", waiting: str = "2x60", rejected: str = "0x60", **other: str
) -> Scenario:
    return of(RANK, {
        "hisparse_index_tokens": used,
        "hisparse_index_token_capacity": "100x60",
        "hisparse_host_tokens": used,
        "hisparse_host_tokens_reserved": reserved,
        "hisparse_host_token_capacity": "1000x60",
        "hisparse_waiting_requests": waiting,
        "hisparse_running_requests": "1x60",
        'hisparse_requests_total{outcome="rejected"}': rejected,
        **other,
    })  # fmt: skip


def full(share: str) -> Firing:
    words = f"{WHO}: {share} of the index keys are used or promised, and requests wait or are refused"
    return Firing("critical", words)


def test_full_index_keys_fire_while_requests_wait_and_resolve(tmp_path: Path) -> None:
    run(
        tmp_path,
        keys("20x4 99x20 20x30"),
        Moment("6m", FULL),
        Moment("7m", FULL, (full("99%"),)),
        Moment("26m", FULL),
    )


def test_promised_keys_count(tmp_path: Path) -> None:
    run(tmp_path, keys("10x60", reserved="90x60"), Moment("2m", FULL, (full("100%"),)))


def test_too_few_keys_for_one_more_request_are_full(tmp_path: Path) -> None:
    scenario = keys("60x60")
    run(tmp_path, scenario, Moment("1m", FULL), Moment("2m", FULL, (full("60%"),)))


def test_refusals_are_as_bad_as_a_queue(tmp_path: Path) -> None:
    run(tmp_path, keys("99x60", waiting="0x60", rejected="0+1x60"), Moment("10m", FULL, (full("99%"),)))


def test_without_a_host_tier_index_keys_run_out_as_well(tmp_path: Path) -> None:
    scenario = keys("99x60", hisparse_host_tokens="0x60", hisparse_host_token_capacity="0x60")
    run(tmp_path, scenario, Moment("2m", FULL, (full("99%"),)))


@pytest.mark.parametrize(
    ("why", "scenario"),
    [
        ("nobody waits", keys("99x60", waiting="0x60")),
        ("there is room for more than one request", keys("40x60")),
        ("the host pool is full too, and says so", keys("99x60", hisparse_host_token_capacity="100x60")),
        ("there is no such pool", keys("0x60", hisparse_index_token_capacity="0x60")),
    ],
)
def test_index_keys_that_keep_nobody_waiting_are_quiet(tmp_path: Path, why: str, scenario: Scenario) -> None:
    run(tmp_path, scenario, Moment("50m", FULL))
