from __future__ import annotations

import math
from pathlib import Path

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.cells import HISTOGRAM_SPANS, SCALAR_INDEX
from hisparse_metrics.page_reader import read_page
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, Levels, StepStats, Totals
from tests.unit.metrics.support import HISTOGRAM_FIELDS, IDENTITY, make_step


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, IDENTITY, clock=lambda: 50.0)


def cell(recorder: Recorder, field: str) -> float:
    return read_page(recorder.path).cells[SCALAR_INDEX[field]]


def counts(recorder: Recorder, field: str) -> list[float]:
    return HISTOGRAM_SPANS[field].cumulative(read_page(recorder.path).cells)


def with_durations(*durations: Duration) -> StepStats:
    return make_step()._replace(durations=durations)


def test_every_level_and_total_reaches_its_cell(recorder: Recorder) -> None:
    step = make_step()
    recorder.publish(step)
    for field, value in (step.levels._asdict() | step.totals._asdict()).items():
        assert cell(recorder, field) == value, field


def test_a_later_step_replaces_levels_and_totals_and_adds_durations(recorder: Recorder) -> None:
    recorder.publish(make_step())
    recorder.publish(make_step(scale=2))
    assert cell(recorder, "device_tokens") == make_step(scale=2).levels.device_tokens
    assert all(counts(recorder, field)[-1] == 2 for field in HISTOGRAM_FIELDS)


def test_last_step_is_the_start_until_a_decode_step(recorder: Recorder) -> None:
    assert cell(recorder, "last_step_timestamp") == 50.0
    recorder.publish(StepStats(60.0, True, Levels(), Totals(prompt_tokens=5)))
    assert cell(recorder, "last_step_timestamp") == 50.0
    recorder.publish(StepStats(70.0, True, Levels(), Totals(decode_steps=1)))
    recorder.publish(StepStats(80.0, True, Levels(), Totals(decode_steps=1)))
    assert cell(recorder, "last_step_timestamp") == 70.0


def test_bucket_bounds_are_inclusive(recorder: Recorder) -> None:
    bounds = catalogue.SWAP_IN_SECONDS.buckets
    recorder.publish(with_durations(Duration("swap_in_seconds", bounds[2])))
    assert counts(recorder, "swap_in_seconds") == [0.0] * 2 + [1.0] * (len(bounds) - 1)


def test_observations_beyond_the_last_bound_count_in_infinity_only(recorder: Recorder) -> None:
    recorder.publish(with_durations(Duration("swap_in_seconds", 1e9, 3)))
    assert counts(recorder, "swap_in_seconds")[-2:] == [0.0, 3.0]


def test_equal_observations_count_and_add_up(recorder: Recorder) -> None:
    recorder.publish(with_durations(Duration("inter_token_latency_seconds", 0.25, 8)))
    span = HISTOGRAM_SPANS["inter_token_latency_seconds"]
    assert counts(recorder, "inter_token_latency_seconds")[-1] == 8
    assert read_page(recorder.path).cells[span.sum] == 2.0


@pytest.mark.parametrize(
    "duration",
    [
        Duration("swap_in_secnods", 0.1),
        Duration("swap_in_seconds", -0.1),
        Duration("swap_in_seconds", math.nan),
        Duration("swap_in_seconds", math.inf),
    ],
)
def test_a_duration_that_cannot_be_recorded_is_counted_and_harms_nothing(
    recorder: Recorder, duration: Duration, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.publish(with_durations(duration, duration))
    assert recorder.dropped_observations == 2
    assert len(caplog.records) == 1
    assert counts(recorder, "swap_in_seconds")[-1] == 0
    assert cell(recorder, "decode_steps") == make_step().totals.decode_steps


def test_leaving_the_context_leaves_the_page_behind_and_down(tmp_path: Path) -> None:
    with Recorder(tmp_path, IDENTITY) as recorder:
        recorder.publish(make_step())
    page = read_page(recorder.path)
    assert not page.alive
    assert page.cells[SCALAR_INDEX["decode_steps"]] == make_step().totals.decode_steps


def test_publishing_after_close_does_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, IDENTITY)
    recorder.close(unlink=True)
    recorder.publish(make_step())
    assert list(tmp_path.iterdir()) == []


def test_a_new_recorder_starts_from_zero(tmp_path: Path) -> None:
    with Recorder(tmp_path, IDENTITY) as first:
        first.publish(make_step())
    with Recorder(tmp_path, IDENTITY, clock=lambda: 9.0) as second:
        assert cell(second, "decode_steps") == 0
        assert cell(second, "last_step_timestamp") == 9.0


def test_two_recorders_of_one_rank_are_refused_and_the_first_is_unharmed(recorder: Recorder) -> None:
    recorder.publish(make_step())
    with pytest.raises(Exception, match="is in use by process"):
        Recorder(recorder.path.parent, IDENTITY)
    assert read_page(recorder.path).alive
