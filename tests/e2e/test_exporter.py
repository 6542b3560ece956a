"""The exporter as a process of its own, beside engines that live, die and misbehave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hisparse_metrics.decode_log import LogFormat, parse, render
from hisparse_metrics.recorder import Recorder
from tests.support.programs import promtool
from tests.unit.metrics.support import IDENTITY, LABELS, make_step, published

CLI = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')", "exporter"]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
ENGINE = """
import sys, time
from pathlib import Path
from hisparse_metrics.recorder import Recorder
from tests.unit.metrics.support import IDENTITY, make_step
recorder = Recorder(Path(sys.argv[1]), IDENTITY)
recorder.publish(make_step(time.time()))
print("running", flush=True)
while True:
    recorder.publish(make_step(time.time()))
    time.sleep(0.001)
"""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the length of the block; it has to be gone at the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


@contextmanager
def exporting(stats_dir: Path, **environment: str) -> Iterator[str]:
    """Run ``hisparse exporter`` on a free port; yield its address."""
    with running([*CLI, "--stats-dir", str(stats_dir), "--listen", "127.0.0.1:0"], **environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+?(?=/metrics)", process.stdout.readline())
        assert found, "the exporter has to print its address"
        yield found[0]


def fetch(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return str(response.read().decode())


def scrape(address: str) -> Samples:
    families = parse_text(fetch(f"{address}/metrics"))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str) -> float | None:
    return samples.get((name, frozenset(LABELS.items())))


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_death_is_told_within_a_second_and_counters_stay(tmp_path: Path) -> None:
    with exporting(tmp_path) as address, running([sys.executable, "-c", ENGINE, str(tmp_path)]) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "running\n"
        before = scrape(address)
        assert value(before, "hisparse_engine_up") == 1
        assert value(before, "hisparse_host_tokens") == make_step().levels.host_tokens
        engine.kill()
        engine.wait(10)
        died = time.monotonic()
        after = scrape(address)
        assert time.monotonic() - died < 1.0
    assert value(after, "hisparse_engine_up") == 0
    assert value(after, "hisparse_generation_tokens_total") == make_step().totals.generation_tokens
    assert value(after, "hisparse_decode_step_seconds_count") >= value(
        before, "hisparse_decode_step_seconds_count"
    )  # type: ignore[operator]
    assert value(after, "hisparse_host_tokens") is None, "a dead engine holds no tokens"


def test_engine_that_comes_back_is_up_again_under_the_same_labels(tmp_path: Path) -> None:
    with exporting(tmp_path) as address:
        published(tmp_path).close()
        assert value(scrape(address), "hisparse_engine_up") == 0
        recorder = Recorder(tmp_path, IDENTITY)
        assert value(scrape(address), "hisparse_engine_up") == 1
        assert value(scrape(address), "hisparse_generation_tokens_total") == 0
        recorder.close()


def test_log_line_and_metrics_of_one_step_agree(tmp_path: Path) -> None:
    recorder, step = published(tmp_path), make_step()
    split, full = (parse(render(step, 71.3, log_format)) for log_format in (LogFormat.SPLIT, LogFormat.JSON))
    assert split is not None
    assert full is not None
    with exporting(tmp_path) as address:
        samples = scrape(address)
    for record, precision in ((split, 0.005), (full, 0.0)):
        pool = record.pool
        assert value(samples, "hisparse_device_tokens") == pool.hisparse_device_tokens
        assert value(samples, "hisparse_host_tokens") == pool.hisparse_host_tokens
        device, host = (value(samples, f"hisparse_{tier}_token_usage") for tier in ("device", "host"))
        assert pool.hisparse_device_token_usage == pytest.approx(device, abs=precision)
        assert pool.hisparse_host_token_usage == pytest.approx(host, abs=precision)
        assert value(samples, "hisparse_running_requests") == record.running_requests
        assert value(samples, "hisparse_waiting_requests") == record.waiting_requests
    recorder.close()


def test_a_hundred_ranks_on_one_exporter(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for rank in range(100):
            recorder = stack.enter_context(Recorder(tmp_path, replace(IDENTITY, dp_rank=rank)))
            recorder.publish(make_step())
        address = stack.enter_context(exporting(tmp_path))
        samples = scrape(address)
        started = time.monotonic()
        fetch(f"{address}/metrics")
        assert time.monotonic() - started < 5.0, "half of Prometheus' default scrape timeout"
    up = {
        dict(labels)["dp_rank"]: up for (name, labels), up in samples.items() if name == "hisparse_engine_up"
    }
    assert up == {str(rank): 1.0 for rank in range(100)}


def test_it_says_where_to_look(tmp_path: Path) -> None:
    with running([*CLI, "--stats-dir", str(tmp_path), "--listen", "127.0.0.1:0"]) as process:
        assert process.stdout is not None
        found = re.search(r"serving (\S+)/metrics from .*; live page: (\S+)/$", process.stdout.readline())
        assert found
        assert found[1] == found[2]
        assert "<title>HiSparse</title>" in fetch(f"{found[2]}/")


def test_garbage_in_the_folder_hides_no_engine(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    (tmp_path / "a.page").write_bytes(os.urandom(8000))
    (tmp_path / "b.page").touch()
    os.mkfifo(tmp_path / "c.page")
    with exporting(tmp_path) as address:
        samples = scrape(address)
    assert value(samples, "hisparse_engine_up") == 1
    skipped = {
        dict(labels)["reason"]: n
        for (name, labels), n in samples.items()
        if name == "hisparse_exporter_pages_skipped"
    }
    assert {reason for reason, n in skipped.items() if n == 1} == {"garbage", "truncated", "unreadable"}
    recorder.close()


def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    with exporting(tmp_path) as address:
        done = promtool("check", "metrics", stdin=fetch(f"{address}/metrics"))
    assert done.stdout + done.stderr == ""
    recorder.close()


def test_multiprocess_mode_of_a_serving_engine_has_no_influence(tmp_path: Path) -> None:
    recorder = published(tmp_path / "stats")
    multiprocess = tmp_path / "multiprocess"
    multiprocess.mkdir()
    with exporting(tmp_path / "stats") as plain:
        expected = scrape(plain)
    with exporting(tmp_path / "stats", PROMETHEUS_MULTIPROC_DIR=str(multiprocess)) as inherited:
        assert scrape(inherited) == expected
    assert list(multiprocess.iterdir()) == []
    recorder.close()


def test_content_is_negotiated(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    with exporting(tmp_path) as address:
        text = fetch(f"{address}/metrics", **OPENMETRICS)
        assert "hisparse_engine_up" in {family.name for family in parse_openmetrics(text)}
        assert not fetch(f"{address}/metrics").endswith("# EOF\n")
        assert '"status": "ok"' in fetch(f"{address}/healthz")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"{address}/etc/passwd")
    recorder.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stop_signals_end_it_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    with running([*CLI, "--stats-dir", str(tmp_path), "--listen", "127.0.0.1:0"]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_without_torch_it_works(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    (blocked / "torch").mkdir(parents=True)
    (blocked / "torch" / "__init__.py").write_text("raise ImportError('torch is not installed')")
    path = os.pathsep.join([str(blocked), *sys.path])
    with exporting(tmp_path, PYTHONPATH=path) as address:
        assert "hisparse_exporter_pages_skipped" in fetch(f"{address}/metrics")


def test_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with exporting(tmp_path) as address:
        port = address.rpartition(":")[2]
        done = run_cli("--stats-dir", str(tmp_path), "--listen", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in done.stderr
    assert "--listen HOST:PORT" in done.stderr


def test_mistakes_are_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for arguments, expected in (
        (("--listen", "nonsense"), "cannot listen on 'nonsense': expected HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--stats-dir", str(file)), f"cannot read stats folder {file}"),
    ):
        done = run_cli(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert expected in done.stderr


def test_help_shows_examples() -> None:
    done = run_cli("--help")
    assert done.returncode == 0
    assert "hisparse exporter --stats-dir /dev/shm/hisparse --listen 0.0.0.0:9477" in done.stdout
