from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind, Metric, Origin
from hisparse_metrics.page_layout import BODY
from hisparse_metrics.stats import usage
from tests.unit.metrics.support import HISTOGRAM_FIELDS, IDENTITY, LABELS, make_step, published, registry_of

EXPORTED = [metric for metric in catalogue.ALL if metric.origin is not Origin.SOURCE]
SERIES_PER_ENGINE = 144


def sample_names(metric: Metric) -> set[str]:
    if metric.kind is Kind.HISTOGRAM:
        return {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return {metric.name}


def exposed(registry: CollectorRegistry) -> set[str]:
    families = parse_text(generate_latest(registry).decode())
    return {sample.name for family in families for sample in family.samples}


def num_engine_series(registry: CollectorRegistry) -> int:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return sum("engine_name" in sample.labels for sample in samples)


def test_every_level_total_and_usage_is_exposed_with_its_value(tmp_path: Path) -> None:
    recorder, registry, step = published(tmp_path), registry_of(tmp_path), make_step()
    values = step.levels._asdict() | step.totals._asdict() | step.token_stats._asdict()
    for metric in EXPORTED:
        for own, field in metric.samples:
            if field in values:
                labels = LABELS | dict(zip((label.name for label in metric.labels), own, strict=True))
                assert registry.get_sample_value(metric.name, labels) == values[field], metric.name
    assert recorder.dropped_observations == 0


def test_every_catalogue_name_appears_except_the_sidecars(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    assert exposed(registry_of(tmp_path)) == {name for metric in EXPORTED for name in sample_names(metric)}
    assert recorder


@pytest.mark.parametrize("field", HISTOGRAM_FIELDS)
def test_histograms_are_cumulative_and_add_up(tmp_path: Path, field: str) -> None:
    recorder, registry, name = published(tmp_path), registry_of(tmp_path), f"hisparse_{field}"
    recorder.publish(make_step())
    duration = next(duration for duration in make_step().durations if duration.field == field)
    assert registry.get_sample_value(f"{name}_count", LABELS) == 2
    assert registry.get_sample_value(f"{name}_sum", LABELS) == pytest.approx(2 * duration.seconds)
    assert registry.get_sample_value(f"{name}_bucket", LABELS | {"le": "+Inf"}) == 2
    family = next(family for family in registry.collect() if family.name == name)
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    assert buckets == [(bound, 2.0 * (bound >= duration.seconds)) for bound, _ in buckets]


def test_identity_and_health(tmp_path: Path) -> None:
    recorder, registry = published(tmp_path), registry_of(tmp_path)
    info = {"version": "1.2.3", "mode": "hierarchical", "device": "cpu", "dtype": "float32"}
    assert registry.get_sample_value("hisparse_engine_info", LABELS | info) == 1
    assert registry.get_sample_value("hisparse_engine_up", LABELS) == 1
    last = registry.get_sample_value("hisparse_engine_last_step_timestamp_seconds", LABELS)
    assert last == make_step().timestamp
    assert recorder


def test_a_dead_engine_keeps_counters_and_histograms_and_loses_its_levels(tmp_path: Path) -> None:
    recorder, registry = published(tmp_path), registry_of(tmp_path)
    before = generate_latest(registry).decode()
    recorder.close()
    after = generate_latest(registry).decode()
    assert registry.get_sample_value("hisparse_engine_up", LABELS) == 0
    levels = {metric.name for metric in EXPORTED if metric.is_level}
    lost = set(before.splitlines()) - set(after.splitlines())
    names = {line.split("{")[0] for line in lost if not line.startswith("#")}
    assert names == levels | {"hisparse_engine_up"}


def test_usage_is_zero_without_capacity(tmp_path: Path) -> None:
    recorder, registry, step = published(tmp_path), registry_of(tmp_path), make_step()
    recorder.publish(step._replace(levels=step.levels._replace(host_token_capacity=0)))
    assert registry.get_sample_value("hisparse_host_token_usage", LABELS) == 0.0 == usage(5, 0)


def test_series_per_engine_are_a_constant(tmp_path: Path) -> None:
    """Closed label sets make cardinality a number that a change has to confess."""
    recorders = [published(tmp_path, replace(IDENTITY, dp_rank=rank)) for rank in range(3)]
    assert num_engine_series(registry_of(tmp_path)) == 3 * SERIES_PER_ENGINE
    recorders[0].publish(make_step(scale=3))
    assert num_engine_series(registry_of(tmp_path)) == 3 * SERIES_PER_ENGINE


def test_families_are_fresh_at_every_collect(tmp_path: Path) -> None:
    recorder, registry = published(tmp_path), registry_of(tmp_path)
    assert num_engine_series(registry) == num_engine_series(registry) == SERIES_PER_ENGINE
    recorder.close(unlink=True)
    assert num_engine_series(registry) == 0


def test_text_format_parses_with_types_help_and_no_created_series(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    text = generate_latest(registry_of(tmp_path)).decode()
    families = {family.name: family for family in parse_text(text)}
    for metric in EXPORTED:
        family = families[metric.name.removesuffix("_total")]
        expected = "gauge" if metric.kind is Kind.INFO else metric.kind.value
        assert (family.type, family.documentation) == (expected, metric.help)
    assert "_created" not in text
    assert all(s.timestamp is None for family in families.values() for s in family.samples)
    assert recorder


def test_openmetrics_parses_with_types_and_units(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    text = generate_openmetrics(registry_of(tmp_path)).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    for metric in EXPORTED:
        family = families[metric.name.removesuffix("_total").removesuffix("_info")]
        assert family.type == metric.kind.value
    assert families["hisparse_host_to_device_bytes"].unit == "bytes"
    assert families["hisparse_swap_in_seconds"].unit == "seconds"
    assert "_created" not in text
    assert recorder


@pytest.mark.parametrize("name", ['quote"back\\slash', "line\nbreak", "ünï", "{a=1}", " "])
def test_any_label_value_survives_both_formats(tmp_path: Path, name: str) -> None:
    recorder = published(tmp_path, replace(IDENTITY, model_name=name))
    registry = registry_of(tmp_path)
    both = (
        parse_text(generate_latest(registry).decode()),
        parse_openmetrics(generate_openmetrics(registry).decode()),
    )
    for families in both:
        up = next(family for family in families if family.name == "hisparse_engine_up")
        assert [sample.labels["model_name"] for sample in up.samples] == [name]
    assert recorder


def test_skipped_pages_are_told_by_reason(tmp_path: Path) -> None:
    recorder, registry = published(tmp_path), registry_of(tmp_path)
    (tmp_path / "bad.page").write_bytes(b"\0" * BODY)
    reasons = catalogue.SKIP_REASON.values
    assert reasons is not None
    found = {r: registry.get_sample_value("hisparse_exporter_pages_skipped", {"reason": r}) for r in reasons}
    assert found == dict.fromkeys(reasons, 0.0) | {"garbage": 1.0}
    assert recorder
