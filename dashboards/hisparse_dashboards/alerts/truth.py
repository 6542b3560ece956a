"""Alerts about the truth: does the engine compute what it should. One failure is too many."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.alerts.wording import NUMBER, WHO
from hisparse_dashboards.config import Config
from hisparse_dashboards.rules import Alert


def alerts(_: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    yield verify_mismatch()
    yield invariant_violation()


def verify_mismatch() -> Alert:
    """Tell that a swapped-in row was not the row that it should have been."""
    return Alert(
        "HiSparseVerifyMismatch",
        "critical",
        f"{v.VERIFY_MISMATCHES} > 0",
        "0m",
        f"{WHO}: {NUMBER} sampled rows on the device differed from their host rows",
        "A row on the device was not what the host holds, so tokens since then may be wrong. Likely causes: a defect in "
        "swap-in or backup, a failing device or host memory. First: take the rank out of service, keep its log, then "
        "restart it; the alert stays until the restart.",
    )


def invariant_violation() -> Alert:
    """Tell that a pool's account did not add up."""
    return Alert(
        "HiSparseInvariantViolation",
        "critical",
        f"{v.INVARIANT_VIOLATIONS} > 0",
        "0m",
        f"{WHO}: {NUMBER} audits found a pool whose account does not add up",
        "An audit found slots with two owners or none. The requests that held slots have failed and the pools were "
        "cleared. Likely causes: a defect in the engine. First: keep the log, where the violation is described, report "
        "it, and restart the rank; the alert stays until the restart.",
    )
