from __future__ import annotations

import pytest

from hisparse_dashboards import queries, view, vocabulary
from hisparse_dashboards.config import DEFAULT
from hisparse_dashboards.queries import Scope
from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric

DASHBOARD = view.ranks(DEFAULT).exported
ALL_VARIABLES = ", ".join(f'{label}=~"${label}"' for label in queries.IDENTITY)


def test_dashboard_scope_selects_what_the_variables_choose() -> None:
    assert DASHBOARD.gauge(m.HOST_TOKENS) == f"hisparse_host_tokens{{{ALL_VARIABLES}}}"
    recorded = view.ranks(DEFAULT).recorded.recorded("hisparse:a:b")
    assert recorded == f'hisparse:a:b{{engine=~"$engine", {ALL_VARIABLES}}}'
    assert DASHBOARD.builtin("up") == 'up{job=~"$job", instance=~"$instance"}'


def test_rule_scope_selects_everything_over_its_window() -> None:
    scope = Scope((), "5m")
    assert scope.gauge(m.HOST_TOKENS) == "hisparse_host_tokens"
    assert scope.rate(m.EVICTIONS) == "rate(hisparse_evictions_total[5m])"
    assert scope.builtin("up") == "up"


def test_a_scope_can_be_narrowed() -> None:
    narrowed = Scope(('source=""',), "5m").matching('outcome="rejected"')
    assert narrowed.rate(m.REQUESTS) == 'rate(hisparse_requests_total{source="", outcome="rejected"}[5m])'
    assert narrowed.counter(m.VERIFY_MISMATCHES).startswith("hisparse_verify_mismatches_total{")


def test_quantile_reads_the_buckets_of_all_ranks() -> None:
    assert Scope((), "1m").quantile(0.95, m.DECODE_STEP_SECONDS) == (
        "histogram_quantile(0.95, sum by (le) (rate(hisparse_decode_step_seconds_bucket[1m])))"
    )


def test_a_histogram_gives_buckets_and_time() -> None:
    scope = Scope((), "1m")
    assert (
        scope.buckets(m.DECODE_STEP_SECONDS) == "sum by (le) (rate(hisparse_decode_step_seconds_bucket[1m]))"
    )
    assert scope.seconds_per_second(m.DECODE_STEP_SECONDS) == "rate(hisparse_decode_step_seconds_sum[1m])"


def test_identity_is_what_prometheus_adds_and_what_the_engine_says() -> None:
    assert ("job", "instance", *(label.name for label in m.ENGINE_LABELS)) == queries.IDENTITY


@pytest.mark.parametrize(
    ("use", "metric", "message"),
    [
        (DASHBOARD.rate, m.HOST_TOKENS, "hisparse_host_tokens is a gauge, not a counter"),
        (DASHBOARD.gauge, m.EVICTIONS, "hisparse_evictions_total is a counter, not a gauge"),
        (DASHBOARD.gauge, m.DECODE_STEP_SECONDS, "hisparse_decode_step_seconds is a histogram, not a gauge"),
    ],
)
def test_a_metric_of_another_kind_is_refused(use: object, metric: Metric, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use(metric)  # type: ignore[operator]


def test_a_ratio_is_absent_where_its_denominator_is_zero() -> None:
    assert queries.ratio("a", "b") == "a / (b > 0)"


def test_recorded_names_have_thing_and_unit() -> None:
    assert vocabulary.recorded("host_token_usage", "ratio") == "hisparse:host_token_usage:ratio"
