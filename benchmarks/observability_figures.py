"""Whether a condition's steps differ from those without it: pairs of medians, round by round, with Student's confidence."""

from __future__ import annotations

import statistics
from math import sqrt
from typing import Any

from benchmarks.decode_measure import percentile

_T95 = (
    0.0,
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.16,
    2.145,
    2.131,
)
"""Student's t, two-sided 95 %, by degrees of freedom."""


def describe(rounds: list[list[float]], off: list[float]) -> dict[str, Any]:
    """Return a condition's figures over its rounds, and its distance from ``off``, the medians of the same rounds."""
    every = [step for of_round in rounds for step in of_round]
    differences = [
        1000 * (statistics.median(of_round) - base) for of_round, base in zip(rounds, off, strict=True)
    ]
    mean, half = confidence(differences)
    base = statistics.fmean(off)
    return {
        "steps": len(every),
        "median_ms": round(statistics.median(every), 4),
        "p99_ms": round(percentile(every, 99), 4),
        "difference_us": round(mean, 2),
        "difference_us_95": [round(mean - half, 2), round(mean + half, 2)],
        "difference_percent_95": [round((mean - half) / base / 10, 3), round((mean + half) / base / 10, 3)],
        "within_noise": mean - half <= 0 <= mean + half,
    }


def confidence(values: list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % confidence interval (Student)."""
    if len(values) < 2:
        return statistics.fmean(values), float("inf")
    factor = _T95[len(values) - 1] if len(values) <= len(_T95) else 1.96 + 2.4 / (len(values) - 1)
    return statistics.fmean(values), factor * statistics.stdev(values) / sqrt(len(values))
