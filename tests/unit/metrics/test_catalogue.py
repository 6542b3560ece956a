from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind, Metric, Origin
from hisparse_metrics.stats import Levels, Totals

GOLDEN = Path(__file__).with_name("metric_names.txt")
DURATION_FIELDS = {
    "decode_step_seconds",
    "swap_in_seconds",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_duration_seconds",
}


def test_names_and_kinds_are_the_golden_list() -> None:
    """A rename breaks users' dashboards: it has to be a reviewed change of this file."""
    assert [f"{metric.name} {metric.kind}" for metric in catalogue.ALL] == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize("metric", catalogue.ALL, ids=str)
def test_entry_keeps_the_naming_rules(metric: Metric) -> None:
    assert re.fullmatch(r"hisparse_[a-z0-9_]+", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert (metric.kind is Kind.INFO) == metric.name.endswith("_info")
    assert not re.search(r"_(ms|us|perc|percent|created|bucket|count|sum)$", metric.name)
    assert metric.help.endswith(".")
    assert metric.question
    assert "|" not in metric.help + metric.question, "would break the generated table"


@pytest.mark.parametrize("metric", catalogue.ALL, ids=str)
def test_constant_is_named_after_its_metric(metric: Metric) -> None:
    constant = metric.name.removeprefix("hisparse_").removesuffix("_total").upper()
    assert getattr(catalogue, constant) is metric


def test_a_misspelt_metric_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        catalogue.DEVICE_TOKNES  # noqa: B018


def test_every_level_and_total_has_exactly_one_sample() -> None:
    fields = [
        field for metric in catalogue.PAGE if metric.kind is not Kind.HISTOGRAM for _, field in metric.samples
    ]
    assert sorted(fields) == sorted((*Levels._fields, *Totals._fields, "last_step_timestamp"))


def test_kinds_follow_levels_and_totals() -> None:
    for metric in catalogue.PAGE:
        fields = {field for _, field in metric.samples}
        assert (metric.kind is Kind.COUNTER) == bool(fields & set(Totals._fields))
        assert metric.is_level == bool(fields & set(Levels._fields))


def test_histograms_cover_every_duration_with_sorted_positive_bounded_buckets() -> None:
    histograms = [metric for metric in catalogue.ALL if metric.kind is Kind.HISTOGRAM]
    assert {metric.field for metric in histograms} == DURATION_FIELDS
    for metric in histograms:
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.buckets[0] > 0
        assert len(metric.buckets) <= 20


def test_sidecar_metrics_are_flagged_and_take_no_cells() -> None:
    sidecar = [metric for metric in catalogue.ALL if metric.name.startswith("hisparse_source_")]
    assert len(sidecar) == 10
    assert all(metric.origin is Origin.SOURCE and metric.num_cells == 0 for metric in sidecar)


def test_requests_outcomes_map_to_totals() -> None:
    assert catalogue.REQUESTS.samples == tuple(
        ((outcome,), f"requests_{outcome}") for outcome in ("stop", "length", "aborted", "rejected", "failed")
    )


def test_hash_ignores_help_and_notices_what_cells_mean() -> None:
    first, *rest = catalogue.PAGE
    reworded = [replace(first, help="Other words."), *rest]
    assert catalogue.page_hash(reworded) == catalogue.CATALOGUE_HASH
    for changed in ([replace(first, name="hisparse_other"), *rest], [*rest, first], rest):
        assert catalogue.page_hash(changed) != catalogue.CATALOGUE_HASH
    histogram = catalogue.PAGE[-1]
    rebucketed = replace(histogram, buckets=histogram.buckets[:-1])
    assert catalogue.page_hash([*catalogue.PAGE[:-1], rebucketed]) != catalogue.CATALOGUE_HASH
