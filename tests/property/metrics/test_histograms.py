from __future__ import annotations

import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics import catalogue
from hisparse_metrics.cells import HISTOGRAM_SPANS
from hisparse_metrics.page_reader import read_page
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, EngineIdentity, Levels, StepStats, Totals

BOUNDS = catalogue.DECODE_STEP_SECONDS.buckets
SECONDS = st.floats(0, 100) | st.sampled_from(BOUNDS)
OBSERVATIONS = st.lists(st.tuples(SECONDS, st.integers(1, 1000)), max_size=20)


@settings(max_examples=50)
@given(OBSERVATIONS)
def test_buckets_equal_a_plain_count(observations: list[tuple[float, int]]) -> None:
    durations = tuple(Duration("decode_step_seconds", seconds, count) for seconds, count in observations)
    with tempfile.TemporaryDirectory() as folder:
        with Recorder(Path(folder), EngineIdentity()) as recorder:
            recorder.publish(StepStats(1.0, True, Levels(), Totals(), durations))
        cells = read_page(recorder.path).cells
    span = HISTOGRAM_SPANS["decode_step_seconds"]
    expected = [sum(n for seconds, n in observations if seconds <= bound) for bound in (*BOUNDS, math.inf)]
    assert span.cumulative(cells) == expected
    assert math.isclose(cells[span.sum], sum(seconds * n for seconds, n in observations), abs_tol=1e-9)
