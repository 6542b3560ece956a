"""What a step's publication costs the engine: the stats page beside plain prometheus_client children.

    python benchmarks/bench_publish.py                measures, writes results/publish.json, prints the ratio
    python -m pytest benchmarks/bench_publish.py      only measures

Both do the same update: every level and total of a decode step, and its durations. The children's labels are resolved
in advance, which is the fastest way to use the client library. Counters are cumulative in the engine, so the children
get the difference to the step before.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind, Metric
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, EngineIdentity, Levels, StepStats, Totals

RESULT = Path(__file__).parent / "results" / "publish.json"
IDENTITY = EngineIdentity(model_name="bench")
ROUNDS = 20_000
_TYPES = {
    Kind.GAUGE: prometheus_client.Gauge,
    Kind.COUNTER: prometheus_client.Counter,
}


def realistic_step(n: int) -> StepStats:
    """Return the ``n``-th decode step of a batch of 32; it moves every number that a real step moves."""
    host = 900_000 + 32 * n % 500_000
    return StepStats(
        timestamp=1.795e9 + 0.03 * n,
        is_hisparse=True,
        levels=Levels(
            device_tokens=131_072, device_token_capacity=196_608, device_tokens_spare=65_000 + n % 500,
            host_tokens=host, host_token_capacity=1_500_000, host_tokens_reserved=60_000,
            index_tokens=host, index_token_capacity=1_500_000,
            running_requests=32, waiting_requests=3, staging_requests=1,
        ),
        totals=Totals(
            decode_steps=n, prompt_tokens=64_000 + n, generation_tokens=32 * n, swap_in_lookups=4_000_000 * n,
            swap_in_hits=3_996_000 * n, swap_in_misses=4000 * n, evictions=4000 * n,
            host_to_device_bytes=2_624_000 * n, device_to_host_bytes=1_280_000 * n, requests_stop=n // 9,
            requests_length=n // 7, verify_checks=n,
        ),
        durations=(
            Duration("decode_step_seconds", 0.031),
            Duration("swap_in_seconds", 0.0042),
            Duration("inter_token_latency_seconds", 0.031, 32),
        ),
    )  # fmt: skip


class PlainClient:
    """The same update with children of prometheus_client metrics, their labels resolved in advance."""

    def __init__(self, identity: EngineIdentity) -> None:
        registry = prometheus_client.CollectorRegistry()
        labels = {label.name: str(getattr(identity, label.name)) for label in catalogue.ENGINE_LABELS}
        self._gauges: list[Any] = [None] * len(Levels._fields)
        self._counters: list[Any] = [None] * len(Totals._fields)
        self._histograms: dict[str, Any] = {}
        self._before: tuple[int, ...] = Totals()
        self._last_step: Any = None
        for metric in catalogue.PAGE:
            self._add(metric, labels, registry)

    def publish(self, step: StepStats) -> None:
        """Bring every child up to ``step``."""
        for gauge, value in zip(self._gauges, step.levels, strict=True):
            gauge.set(value)
        for counter, now, before in zip(self._counters, step.totals, self._before, strict=True):
            if now != before:
                counter.inc(now - before)
        self._before = step.totals
        self._last_step.set(step.timestamp)
        for field, seconds, number in step.durations:
            observe = self._histograms[field].observe
            for _ in range(number):
                observe(seconds)

    def _add(
        self, metric: Metric, labels: dict[str, str], registry: prometheus_client.CollectorRegistry
    ) -> None:
        names = metric.label_names
        if metric.kind is Kind.HISTOGRAM:
            family: Any = prometheus_client.Histogram(
                metric.name, metric.help, names, buckets=metric.buckets, registry=registry
            )
            self._histograms[metric.field] = family.labels(**labels)
            return
        family = _TYPES[metric.kind](metric.name, metric.help, names, registry=registry)
        own = [label.name for label in metric.labels]
        for values, field in metric.samples:
            self._place(field, family.labels(**labels, **dict(zip(own, values, strict=True))))

    def _place(self, field: str, child: Any) -> None:
        if field in Levels._fields:
            self._gauges[Levels._fields.index(field)] = child
        elif field in Totals._fields:
            self._counters[Totals._fields.index(field)] = child
        else:
            self._last_step = child


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    shared_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=shared_memory) as folder,
        Recorder(Path(folder), IDENTITY) as recorder,
    ):
        yield recorder


def test_stats_page(benchmark: BenchmarkFixture, recorder: Recorder) -> None:
    measure(benchmark, recorder.publish, realistic_step)
    assert recorder.dropped_observations == 0


def test_plain_client(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, PlainClient(IDENTITY).publish, realistic_step)


def test_plain_client_without_repeated_observations(benchmark: BenchmarkFixture) -> None:
    """The client library cannot observe a value 32 times at once; this leaves 31 out, to its advantage."""
    measure(benchmark, PlainClient(IDENTITY).publish, with_single_observations)


def with_single_observations(n: int) -> StepStats:
    step = realistic_step(n)
    return step._replace(durations=tuple(duration._replace(count=1) for duration in step.durations))


def measure(
    benchmark: BenchmarkFixture, publish: Callable[[StepStats], None], step: Callable[[int], StepStats]
) -> None:
    """Time one publication a round; every round gets the next step, made outside of the time."""
    order = count(1)
    benchmark.pedantic(publish, setup=lambda: ((step(next(order)),), {}), rounds=ROUNDS, warmup_rounds=1000)


def main() -> int:
    """Run the benchmarks, write the result file, print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        status = pytest.main([__file__, "-q", "-p", "no:cacheprovider", f"--benchmark-json={raw}"])
        if status:
            return int(status)
        result = summary(json.loads(raw.read_text()))
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    page, plain, single = (bench["median_us"] for bench in result["benchmarks"])
    print(
        f"stats page {page:.2f} us, plain prometheus_client {plain:.2f} us: {plain / page:.1f} times as long"
    )
    print(f"with one observation in place of 32: {single:.2f} us: {single / page:.1f} times as long")
    return 0


def summary(raw: dict[str, Any]) -> dict[str, Any]:
    """Keep the numbers and what they depend on; drop host name, user and paths."""
    machine = raw["machine_info"]
    return {
        "date": raw["datetime"],
        "machine": {
            "cpu": machine["cpu"]["brand_raw"],
            "cores": os.cpu_count(),
            "kernel": platform.release(),
        },
        "versions": {
            "python": platform.python_version(),
            "prometheus-client": version("prometheus-client"),
            "pytest-benchmark": version("pytest-benchmark"),
        },
        "benchmarks": [bench_summary(bench) for bench in raw["benchmarks"]],
    }


def bench_summary(bench: dict[str, Any]) -> dict[str, Any]:
    """Return one benchmark's statistics in microseconds."""
    names = ("min", "median", "mean", "stddev", "q1", "q3", "max")
    micros = {f"{name}_us": round(bench["stats"][name] * 1e6, 3) for name in names}
    return {"name": bench["name"], "rounds": bench["stats"]["rounds"]} | micros


if __name__ == "__main__":
    sys.exit(main())
