"""The recorded vocabulary: every name is defined once, read from series that exist, and says which engine it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hisparse_dashboards import vocabulary
from hisparse_dashboards.config import DEFAULT
from hisparse_dashboards.queries import IDENTITY
from hisparse_dashboards.recording import every_engine, vllm
from hisparse_dashboards.rules import Recording
from hisparse_metrics import catalogue
from hisparse_metrics.metric import Metric, Origin
from tests.support.dashboard_json import exposed_names, selectors

RULES = every_engine(DEFAULT)
NAMES = {
    value for value in vars(vocabulary).values() if isinstance(value, str) and value.startswith("hisparse:")
}
of_engine = pytest.mark.parametrize("engine", vocabulary.ENGINES)


def rules_of(engine: str) -> Iterator[Recording]:
    return (rule for rule in RULES if rule.labels.get("engine") == engine)


def test_every_name_of_the_vocabulary_is_recorded_and_no_other() -> None:
    assert {rule.name for rule in RULES} - {vllm.BLOCK_SIZE} == NAMES
    assert all(re.fullmatch(r"hisparse:[a-z_]+:[a-z_]+", name) for name in NAMES)


@of_engine
def test_an_engine_records_a_name_once(engine: str) -> None:
    names = [rule.name for rule in rules_of(engine)]
    assert len(names) == len(set(names)) >= 15


@of_engine
def test_what_every_engine_can_tell_is_recorded_for_each(engine: str) -> None:
    names = {rule.name for rule in rules_of(engine)}
    assert names >= {
        vocabulary.HOST_CAPACITY, vocabulary.HOST_TOKEN_USAGE, vocabulary.HOST_COMMITTED,
        vocabulary.GENERATION, vocabulary.RUNNING, vocabulary.WAITING, vocabulary.RETRACTIONS, vocabulary.ENGINE_UP,
        vocabulary.STALLED,
    }  # fmt: skip


def test_what_is_another_thing_in_vllm_has_another_name() -> None:
    names = {rule.name for rule in rules_of("vllm")}
    assert {vocabulary.DEVICE_CACHE_USAGE, vocabulary.HOST_CACHE_USAGE} <= names
    assert not names & {
        vocabulary.HOST_USED,
        vocabulary.DEVICE_TOKEN_USAGE,
        vocabulary.DEVICE_USED,
        vocabulary.DEVICE_CAPACITY,
    }


def test_pages_and_logs_never_record_the_same_series() -> None:
    for engine, matcher in (("hisparse", 'source=""'), ("sglang", 'source!=""')):
        for rule in rules_of(engine):
            for selector in selectors(rule.expr):
                assert matcher in selector.matchers, rule.name


def test_rules_read_only_series_that_exist_or_that_a_rule_before_them_records() -> None:
    known = exposed_names() | vllm.NAMES | {"up"}
    for rule in RULES:
        assert {selector.name for selector in selectors(rule.expr)} <= known, rule.name
        known.add(rule.name)


def test_logs_are_asked_only_for_what_they_tell() -> None:
    """A rule over a metric that no log has would be for ever empty."""
    told = {metric.name for metric in catalogue.ALL if _is_told_by_a_log(metric)}
    for rule in rules_of("sglang"):
        assert {selector.name for selector in selectors(rule.expr)} <= told, rule.name


def _is_told_by_a_log(metric: Metric) -> bool:
    return metric.origin is not Origin.CELLS or not metric.field.startswith(("swap_in", "evict", "verify"))


def test_derived_series_keep_the_engine_of_what_they_read() -> None:
    [derived] = [rule for rule in RULES if not rule.labels]
    assert derived.name == vocabulary.HOST_TIME_TO_FULL
    assert "labels" not in derived.to_dict()


def test_same_rank_compares_every_label_of_a_rank() -> None:
    assert vocabulary.same_rank("a", "b") == f"a and on (engine, {', '.join(IDENTITY)}) (b)"
    assert vocabulary.unless_same_rank("a", "b") == f"a unless on (engine, {', '.join(IDENTITY)}) (b)"
