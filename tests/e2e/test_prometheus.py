"""A real Prometheus scrapes a running engine, and its queries say the same as the engine's log lines.

Every decode step is logged, so the n-th line belongs to the scrape that saw ``hisparse_decode_steps_total`` at n.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.decode_log import DecodeRecord, parse
from hisparse_metrics.metric import Metric
from tests.support.programs import promtool
from tests.support.prometheus import PrometheusServer, free_port

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
SCRAPES = 12
MOMENTS = 8


@dataclass
class RunningEngine:
    """An engine that serves /metrics at ``target`` and has printed ``lines`` so far."""

    target: str
    lines: list[str] = field(default_factory=list)

    def decode_records(self) -> list[DecodeRecord]:
        """Return what the decode lines say, one record a decode step."""
        return [record for record in map(parse, self.lines) if record is not None]


@dataclass
class Moment:
    """One scrape, as Prometheus tells of it."""

    prometheus: PrometheusServer
    time: float

    def value(self, metric: Metric) -> float:
        """Return the only series of ``metric`` at this moment."""
        [sample] = self.prometheus.query(metric.name, self.time)
        return sample.value

    @property
    def scraped_at(self) -> float:
        [sample] = self.prometheus.query(f"timestamp({catalogue.DECODE_STEPS})", self.time)
        return sample.value


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The engine in a process of its own: decodes, logs every step, serves /metrics."""
    port = free_port()
    pages, cache = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-m", "tests.support.real_engine", str(pages), str(port), str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    running = RunningEngine(f"127.0.0.1:{port}")
    reader = threading.Thread(target=_read, args=(process, running.lines))
    reader.start()
    yield running
    process.terminate()
    process.wait(timeout=10)
    reader.join()


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        lines.extend(iter(output.readline, ""))


@pytest.fixture(scope="module")
def moments(engine: RunningEngine) -> Iterator[list[Moment]]:
    """Moments half a second apart, each after a scrape of its own, and all behind the newest log line."""
    with PrometheusServer([engine.target], RULES, scrape_interval="500ms") as prometheus:
        scrapes = f"count_over_time({catalogue.DECODE_STEPS}[1m])"
        now = prometheus.wait_for(f"{scrapes} >= {SCRAPES}", timeout=60)[0].timestamp
        moments = [Moment(prometheus, now - 0.5 * back) for back in reversed(range(MOMENTS))]
        _wait_for_line(engine, moments[-1].value(catalogue.DECODE_STEPS))
        yield moments


def _wait_for_line(engine: RunningEngine, step: float) -> None:
    waiting = threading.Event()
    for _ in range(100):
        if len(engine.decode_records()) >= step:
            return
        waiting.wait(0.1)
    pytest.fail(f"the engine has taken {step:.0f} steps but logged only {len(engine.decode_records())}")


def _line_at(engine: RunningEngine, moment: Moment) -> DecodeRecord:
    return engine.decode_records()[int(moment.value(catalogue.DECODE_STEPS)) - 1]


def test_moments_see_the_engine_move(moments: list[Moment]) -> None:
    steps = [moment.value(catalogue.DECODE_STEPS) for moment in moments]
    assert steps == sorted(steps)
    assert len(set(steps)) >= MOMENTS - 1


def test_queries_return_the_numbers_of_the_log_line_of_that_moment(
    engine: RunningEngine, moments: list[Moment]
) -> None:
    for moment in moments:
        line = _line_at(engine, moment)
        assert line.pool.is_hisparse
        assert moment.value(catalogue.DEVICE_TOKENS) == line.pool.hisparse_device_tokens
        assert moment.value(catalogue.HOST_TOKENS) == line.pool.hisparse_host_tokens
        assert moment.value(catalogue.RUNNING_REQUESTS) == line.running_requests
        assert moment.value(catalogue.WAITING_REQUESTS) == line.waiting_requests


def test_usages_are_those_of_the_line_to_its_two_decimals(
    engine: RunningEngine, moments: list[Moment]
) -> None:
    for moment in moments:
        pool = _line_at(engine, moment).pool
        device, host = moment.value(catalogue.DEVICE_TOKEN_USAGE), moment.value(catalogue.HOST_TOKEN_USAGE)
        assert f"{device:.2f}" == f"{pool.hisparse_device_token_usage:.2f}"
        assert f"{host:.2f}" == f"{pool.hisparse_host_token_usage:.2f}"
        assert host == moment.value(catalogue.HOST_TOKENS) / moment.value(catalogue.HOST_TOKEN_CAPACITY)


def test_the_line_and_the_scrape_are_of_the_same_second(engine: RunningEngine, moments: list[Moment]) -> None:
    for moment in moments:
        written = _line_at(engine, moment).timestamp
        assert written is not None
        assert -0.5 < moment.scraped_at - written < 2.0


def test_throughput_is_that_of_the_lines(engine: RunningEngine, moments: list[Moment]) -> None:
    first, last = moments[0], moments[-1]
    tokens = last.value(catalogue.GENERATION_TOKENS) - first.value(catalogue.GENERATION_TOKENS)
    between = engine.decode_records()[
        int(first.value(catalogue.DECODE_STEPS)) : int(last.value(catalogue.DECODE_STEPS))
    ]
    # Equal tokens a step: the mean over time of a rate per step is the harmonic mean.
    logged = statistics.harmonic_mean([record.generation_throughput for record in between])
    assert tokens / (last.scraped_at - first.scraped_at) == pytest.approx(logged, rel=0.1)


def test_the_recorded_usage_is_the_exposed_one(moments: list[Moment]) -> None:
    prometheus = moments[0].prometheus
    [sample] = prometheus.wait_for("hisparse:host_token_usage:ratio")
    assert sample.labels["engine"] == "hisparse"
    assert 0 < sample.value <= 1


def test_the_live_exposition_passes_promtool(engine: RunningEngine, moments: list[Moment]) -> None:
    with urllib.request.urlopen(f"http://{engine.target}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert catalogue.HOST_TOKENS.name in text
    done = promtool("check", "metrics", stdin=text)
    assert (done.stdout, done.stderr) == ("", "")
