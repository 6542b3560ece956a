"""Histograms however they are told, what was observed lately, and quantiles as Prometheus estimates them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.histogram import Histogram, merged, quantile
from hisparse_metrics.page_folder import PageFolder
from tests.unit.metrics.support import published

BOUNDS = (0.01, 0.02, 0.04)


def test_a_page_and_its_exposition_are_the_same_histogram(tmp_path: Path) -> None:
    recorder, metric = published(tmp_path), catalogue.DECODE_STEP_SECONDS
    [page] = PageFolder(tmp_path).read().pages
    recorder.close()
    of_page = Histogram.of_page(page, metric)
    bounds = (*metric.buckets, math.inf)
    cumulative = [sum(of_page.counts[: n + 1]) for n in range(len(bounds))]
    of_samples = Histogram.of_samples(list(zip(bounds, cumulative, strict=True))[::-1])
    assert sum(of_page.counts) == 1
    assert of_samples == of_page


def test_an_exposition_without_buckets_is_no_histogram() -> None:
    assert Histogram.of_samples([]) is None


def test_an_exposition_without_infinity_has_nothing_beyond_its_last_bound() -> None:
    assert Histogram.of_samples([(0.01, 2.0), (0.02, 5.0)]) == Histogram((0.01, 0.02), (2.0, 3.0, 0.0))


def test_what_was_observed_since() -> None:
    assert Histogram(BOUNDS, (5, 4, 3, 2)).since(Histogram(BOUNDS, (1, 4, 1, 0))).counts == (4, 0, 2, 2)


def test_histograms_together() -> None:
    assert merged([]) is None
    assert merged([Histogram(BOUNDS, (1, 0, 0, 1)), Histogram(BOUNDS, (0, 2, 0, 1))]) == Histogram(
        BOUNDS, (1, 2, 0, 2)
    )


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, (2, 0, 0, 0), 0.005),
        (0.5, (0, 2, 0, 0), 0.015),
        (0.5, (0, 8, 2, 0), 0.01 + 0.01 * 5 / 8),
        (0.99, (0, 8, 2, 0), 0.02 + 0.02 * 1.9 / 2),
        (0.99, (0, 0, 0, 3), 0.04),
        (0.5, (1, 1, 1, 0), 0.015),
        (1.0, (1, 0, 0, 0), 0.01),
    ],
)
def test_quantiles_are_estimated_as_prometheus_does(
    q: float, counts: tuple[int, ...], expected: float
) -> None:
    assert quantile(q, Histogram(BOUNDS, counts)) == pytest.approx(expected)


@pytest.mark.parametrize("histogram", [None, Histogram(BOUNDS, (0, 0, 0, 0))])
def test_without_observations_there_is_no_quantile(histogram: Histogram | None) -> None:
    assert quantile(0.5, histogram) is None
