"""What a scrape of logs and pages together looks like."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.state import SidecarState
from hisparse_metrics.sidecar.views import Snapshot, SourceView
from tests.unit.metrics.support import published
from tests.unit.sidecar.support import LOG, NO_HOST, FakeClock, Scraped, batch, decode, fed, prefill, scrape

STATUS = SourceView("/var/log/sglang/*.log", up=True, bytes_read=10, lag_bytes=0)


def both(folder: Path, state: SidecarState) -> SidecarCollector:
    """Return a collector of a folder's pages and a state's logs."""
    pages = PageCollector(PageFolder(folder))
    collector = SidecarCollector(EngineLabels("glm"), 60.0, pages=pages, clock=FakeClock())
    collector.publish(Snapshot(state.views(), (STATUS,)))
    return collector


def registry_of(collector: SidecarCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def test_pages_and_logs_share_one_family_a_metric(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    collector = both(tmp_path, fed(decode(), prefill(), NO_HOST))
    names = [family.name for family in collector.collect()]
    assert len(names) == len(set(names))
    seen = Scraped(collector)
    assert len(seen.values("hisparse_host_tokens")) == len(seen.values("hisparse_prompt_tokens_total")) == 2
    assert seen.values("hisparse_host_tokens", engine_name="sglang") == [41422]
    assert recorder


def test_families_are_fresh_at_every_scrape(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    collector = both(tmp_path, fed(decode()))
    assert len(Scraped(collector).samples) == len(Scraped(collector).samples)
    assert recorder


def test_no_two_series_are_the_same(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    state = fed(decode(ranks=" DP0 TP0"), decode(ranks=" DP0 TP0 ATTN_CP1"), decode(ranks=" DP1 TP1"))
    state.take(batch(decode(), source="/b"), 1000.0)
    samples = [(s.name, *sorted(s.labels.items())) for s in Scraped(both(tmp_path, state)).samples]
    assert len(samples) == len(set(samples))
    assert recorder


def test_both_formats_parse_with_the_catalogue_s_types(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    registry = registry_of(both(tmp_path, fed(decode(), prefill(), NO_HOST)))
    texts = {family.name: family for family in parse_text(generate_latest(registry).decode())}
    opens = {family.name: family for family in parse_openmetrics(generate_openmetrics(registry).decode())}
    for metric in (
        catalogue.HOST_TOKENS,
        catalogue.SOURCE_LINES,
        catalogue.HOST_ALLOCATION_FAILURES,
        catalogue.POOL_TOKENS,
    ):
        if metric is catalogue.POOL_TOKENS:
            assert metric.name not in texts
            continue
        name = metric.name.removesuffix("_total")
        assert texts[name].type == opens[name].type == metric.kind.value
        assert texts[name].documentation == metric.help
    assert recorder


def test_every_label_of_a_log_s_series_is_the_catalogue_s_or_told_in_the_documentation() -> None:
    state = fed(decode(), prefill(), "[2026-04-08 14:05:21 TP0] Decode batch, #running-req: 5, #token: 20800, "
                "token usage: 0.29, cuda graph: True, gen throughput (token/s): 144.95, #queue-req: 0")  # fmt: skip
    by_sample = {metric.name: metric for metric in catalogue.ALL}
    for sample in scrape(state, sources=[STATUS]).samples:
        assert set(sample.labels) - {"source"} == set(by_sample[sample.name].label_names) - {"source"}


def test_up_is_told_for_the_pattern_and_for_each_log() -> None:
    collector = SidecarCollector(EngineLabels(), 60.0, clock=FakeClock())
    state = fed(decode())
    state.take(batch(decode(), source="/gone"), 1000.0)
    collector.publish(Snapshot(state.views(), (STATUS,), unreadable=frozenset({"/gone"})))
    seen = Scraped(collector)
    assert seen.values("hisparse_source_up", source=LOG) == [1]
    assert seen.values("hisparse_source_up", source="/gone") == [0]
    assert seen.values("hisparse_source_up", source=STATUS.name) == [1]


def test_a_lone_path_has_one_up() -> None:
    assert scrape(fed(decode()), sources=[SourceView(LOG, False, 1, 0)]).values("hisparse_source_up") == [0]


def test_512_ranks_in_one_scrape() -> None:
    lines = [decode(rank + 1, "0.90", ranks=f" DP{rank // 8} TP{rank % 8}") for rank in range(512)]
    state = fed(*lines, *(prefill(rank + 1, ranks=f" DP{rank // 8} TP{rank % 8}") for rank in range(512)))
    collector = SidecarCollector(EngineLabels("glm"), 60.0, clock=FakeClock())
    collector.publish(Snapshot(state.views()))
    began = time.perf_counter()
    text = generate_latest(registry_of(collector)).decode()
    assert time.perf_counter() - began < 5.0
    [family] = [family for family in parse_text(text) if family.name == "hisparse_host_tokens"]
    assert sorted(sample.value for sample in family.samples) == list(range(1, 513))
    assert len(text) < 8 << 20
