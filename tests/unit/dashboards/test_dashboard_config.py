from __future__ import annotations

import re

import pytest

from hisparse_dashboards.config import DEFAULT, parse


def test_an_empty_file_is_the_default() -> None:
    assert parse(None) == parse({}) == DEFAULT


def test_what_is_given_replaces_the_default() -> None:
    config = parse({"rate_window": "2m", "thresholds": {"host_usage_warning": 0.7}})
    assert (config.rate_window, config.thresholds.host_usage_warning) == ("2m", 0.7)
    assert config.thresholds.host_usage_critical == DEFAULT.thresholds.host_usage_critical


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"thresholds": {"host_usage_warning": 0.96}}, "thresholds: must satisfy host_usage_warning < host_usage_critical"),
        ({"thresholds": {"host_usage_critical": 0.99}}, "< host_pool_full, got 0.85, 0.99, 0.98"),
        ({"thresholds": {"host_usage_warning": 0}}, "thresholds.host_usage_warning: Input should be greater than 0, got 0"),
        ({"thresholds": {"host_pool_full": 1.01}}, "thresholds.host_pool_full: Input should be less than or equal to 1"),
        ({"thresholds": {"source_stale_seconds": 90000}}, "must be below source_retired_seconds 86400"),
        ({"rate_window": "five minutes"}, "rate_window: String should match pattern"),
        ({"treshold": 1}, "treshold: Extra inputs are not permitted, got 1"),
        ({"cluster_label": "k8s-cluster"}, "cluster_label: String should match pattern"),
        ({"cluster_label": "job"}, "cluster_label and namespace_label must be labels of their own, got 'job' again"),
        ({"cluster_label": "zone", "namespace_label": "zone"}, "must be labels of their own, got 'zone' again"),
        ([1], "the file: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(given)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"thresholds.stalled_seconds: .*; rate_window: .*; runbook_base: .*"
    ):
        parse({"rate_window": 5, "runbook_base": None, "thresholds": {"stalled_seconds": -1}})
