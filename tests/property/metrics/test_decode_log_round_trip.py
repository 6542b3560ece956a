from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_metrics.decode_log import LogFormat, parse, render
from hisparse_metrics.stats import Levels, StepStats, Totals

COUNTS = st.integers(0, 10**12)
TIMES = st.floats(1.6e9, 1.9e9).map(lambda at: round(at, 3))
RATES = st.floats(0, 1e9)
FORMATS = st.sampled_from(LogFormat)


@st.composite
def steps(draw: st.DrawFn) -> StepStats:
    capacities = draw(COUNTS), draw(COUNTS)
    used = [draw(st.integers(0, capacity)) for capacity in capacities]
    is_hisparse = draw(st.booleans())
    levels = Levels(
        device_tokens=used[0], device_token_capacity=capacities[0],
        host_tokens=used[1] * is_hisparse, host_token_capacity=capacities[1] * is_hisparse,
        running_requests=draw(COUNTS), waiting_requests=draw(COUNTS),
    )  # fmt: skip
    return StepStats(draw(TIMES), is_hisparse, levels, Totals())


@given(steps(), RATES, FORMATS)
def test_a_line_parses_back_to_the_numbers_that_made_it(
    step: StepStats, rate: float, log_format: LogFormat
) -> None:
    record = parse(render(step, rate, log_format))
    assert record is not None
    assert record.running_requests == step.levels.running_requests
    assert record.waiting_requests == step.levels.waiting_requests
    assert record.unknown_fields == 0
    if log_format is LogFormat.JSON:
        assert (record.pool, record.generation_throughput) == (step.pool, rate)
        assert record.timestamp == step.timestamp
        return
    pool = record.pool
    assert record.generation_throughput == pytest.approx(rate, abs=0.05)
    assert (pool.tokens, pool.token_usage) == (
        step.pool.tokens,
        pytest.approx(step.pool.token_usage, abs=0.005001),
    )
    assert pool.is_hisparse == (step.is_hisparse and log_format is LogFormat.SPLIT)
    if pool.is_hisparse:
        assert pool.hisparse_host_tokens == step.levels.host_tokens
        assert pool.hisparse_host_token_usage == pytest.approx(
            step.token_stats.host_token_usage, abs=0.005001
        )


@given(steps(), RATES, FORMATS, st.data())
def test_a_line_that_was_cut_is_no_record_or_the_same_but_for_its_last_number(
    step: StepStats, rate: float, log_format: LogFormat, data: st.DataObject
) -> None:
    line = render(step, rate, log_format)
    whole = parse(line)
    record = parse(line[: data.draw(st.integers(0, len(line) - 1))])
    if record is not None:
        assert whole is not None
        assert record.pool == whole.pool
        assert str(whole.waiting_requests).startswith(str(record.waiting_requests))


@given(
    st.text() | st.text().map(lambda text: "Decode batch, " + text) | st.text().map(lambda text: "{" + text)
)
def test_no_text_makes_the_parser_raise(text: str) -> None:
    record = parse(text)
    assert record is None or record.running_requests >= 0


@given(steps(), RATES, st.sampled_from([LogFormat.SPLIT, LogFormat.LEGACY]), st.data())
def test_order_and_unknown_fields_do_not_matter(
    step: StepStats, rate: float, log_format: LogFormat, data: st.DataObject
) -> None:
    line = render(step, rate, log_format)
    prefix, marker, body = line.partition("Decode batch, ")
    extra = data.draw(st.lists(st.sampled_from(["accept len: 2.10", "cuda graph: True", "", "x", "a: b: c"])))
    parts = data.draw(st.permutations([*body.split(", "), *extra]))
    record, whole = parse(prefix + marker + ", ".join(parts)), parse(line)
    assert record is not None
    assert whole is not None
    assert (record.pool, record.timestamp, record.unknown_fields) == (whole.pool, whole.timestamp, len(extra))
