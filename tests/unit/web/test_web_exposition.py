from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.exposition import Format, render, render_gzip
from tests.unit.metrics.support import IDENTITY, published


class Families(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield from self._families


def assert_as_the_client_library(collector: Collector) -> None:
    assert render(collector, Format.TEXT) == generate_latest(collector)
    assert render(collector, Format.OPENMETRICS) == generate_openmetrics(collector)
    for form in Format:
        assert gzip.decompress(render_gzip(collector, form)) == render(collector, form)


NAMES = st.sampled_from(["a", "b_total", "le", "lf", "zz", "a_created", "a_gsum", "with.dot", "ä"])
TEXTS = st.text(max_size=8) | st.sampled_from(['"', "\\", "\n", "\0", "ä", "", "+Inf"])
VALUES = (
    st.floats()
    | st.integers(-(10**9), 10**9)
    | st.sampled_from([0.0, -0.0, math.inf, math.nan, 1e21, 123456789.0])
)
TYPES = st.sampled_from(
    ["counter", "gauge", "histogram", "info", "unknown", "stateset", "summary", "gaugehistogram"]
)


@st.composite
def families(draw: st.DrawFn) -> Metric:
    family = Metric("a", draw(TEXTS), draw(TYPES), draw(st.sampled_from(["", "seconds"])))
    for _ in range(draw(st.integers(0, 4))):
        labels = draw(st.dictionaries(NAMES, TEXTS, max_size=3))
        if draw(st.booleans()):
            labels = {n: v for n, v in labels.items() if n != "le"} | {"le": draw(TEXTS)}
        timestamp = draw(st.none() | st.just(1.5))
        name = family.name + draw(
            st.sampled_from(["", "_total", "_bucket", "_created", "_sum", "_info", ".dot"])
        )
        family.add_sample(name, labels, draw(VALUES), timestamp)
    return family


@given(st.lists(families(), max_size=3))
def test_any_families_are_written_as_the_client_library_writes_them(found: list[Metric]) -> None:
    assert_as_the_client_library(Families(*found))


def test_exemplars_are_kept() -> None:
    family = Metric("a", "help", "histogram")
    family.add_sample("a_bucket", {"le": "+Inf"}, 1.0, None, Exemplar({"trace": "1"}, 0.5))
    assert b'# {trace="1"} 0.5' in render(Families(family), Format.OPENMETRICS)
    assert_as_the_client_library(Families(family))


@pytest.mark.parametrize("name", ["tiny", 'a "quoted" \\ name\nwith a line', "ünïcode"])
def test_pages_are_written_as_the_client_library_writes_them(tmp_path: Path, name: str) -> None:
    recorders = [published(tmp_path, replace(IDENTITY, model_name=name, dp_rank=rank)) for rank in range(3)]
    recorders[1].close()
    assert_as_the_client_library(PageCollector(PageFolder(tmp_path)))
    for recorder in recorders:
        recorder.close(unlink=True)
