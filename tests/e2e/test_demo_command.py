"""``hisparse demo``: up, serving, and a clean end however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_metrics import catalogue
from hisparse_metrics.decode_log import parse

ROOT = Path(__file__).parents[2]
SMALL = (
    "--concurrency",
    "3",
    "--prompt-tokens",
    "300",
    "--max-new-tokens",
    "40",
    "--decode-log-interval",
    "1",
)
# What nothing in a healthy run of this engine moves.
STILL = {
    catalogue.RETRACTIONS.name,
    catalogue.VERIFY_MISMATCHES.name,
    catalogue.INVARIANT_VIOLATIONS.name,
    catalogue.EXPORTER_PAGES_SKIPPED.name,
    catalogue.DEVICE_TOKENS_SPARE.name,  # on the CPU hot buffers have a fixed size
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    ensure_demo_checkpoint(folder / "hisparse")
    return folder


def start(cache: Path, stats_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hisparse_engine", "demo", "--listen", "127.0.0.1:0", *SMALL]
    return subprocess.Popen(
        [*command, "--stats-dir", str(stats_dir), *arguments],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def demo(cache: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(cache, tmp_path / "stats")
    yield process
    process.kill()
    process.communicate()


def lines_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(pattern, line):
            return seen
    pytest.fail(f"the demo ended without {pattern!r}: {''.join(seen)}")


def scrape(lines: list[str]) -> dict[str, float]:
    """Sum every metric over its series, at the address that the demo has printed."""
    url = next(found[0] for line in lines if (found := re.search(r"http://\S+/metrics", line)))
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        values: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return values


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    lines_until(demo, "Decode batch")
    demo.send_signal(number)
    _, rest = demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert "pools empty." in rest.splitlines()[-1]
    assert "Traceback" not in rest


def test_a_signal_before_the_engine_is_up_ends_it_cleanly_too(tmp_path: Path) -> None:
    process = start(tmp_path / "empty-cache", tmp_path / "stats")  # has a checkpoint to make first
    deadline = time.monotonic() + 30
    while not list((tmp_path / "stats").glob("*.page")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors


def test_every_metric_moves_and_the_log_agrees(demo: subprocess.Popen[str]) -> None:
    lines = lines_until(demo, "Decode batch")
    moved: dict[str, float] = {}
    for _ in range(200):
        lines += lines_until(demo, "Decode batch")
        values = scrape(lines)
        moved = {name: max(value, moved.get(name, 0.0)) for name, value in values.items()}
        if not {name for name, value in moved.items() if value == 0 and not name.endswith("_bucket")} - STILL:
            break
    names = {m.name for m in catalogue.PAGE} - {name for name, v in moved.items() if v > 0}
    histograms = {
        m.name for m in catalogue.PAGE if f"{m.name}_count" in moved and moved[f"{m.name}_count"] > 0
    }
    assert names - histograms - STILL == set()
    records = [record for line in lines if (record := parse(line)) is not None]
    assert all(record.pool.is_hisparse for record in records)
    assert max(r.pool.hisparse_host_tokens for r in records) <= moved[catalogue.HOST_TOKEN_CAPACITY.name]


def test_a_duration_ends_it(cache: Path, tmp_path: Path) -> None:
    process = start(cache, tmp_path / "stats", "--duration", "2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "pools empty." in errors.splitlines()[-1]


def test_it_serves_as_the_web_flags_say(cache: Path, tmp_path: Path) -> None:
    config = tmp_path / "web.yaml"
    config.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    flags = (
        "--web.listen-address",
        "127.0.0.1:0",
        "--web.telemetry-path",
        "/m",
        "--web.config.file",
        str(config),
    )
    process = start(cache, tmp_path / "stats", *flags)
    try:
        seen = "".join(lines_until(process, "metrics "))
        pages, metrics = re.findall(r"live page (\S+)", seen), re.search(r"metrics +(\S+/m)\n", seen)
        assert len(pages) == 2, "one for each address"
        assert metrics
        with urllib.request.urlopen(metrics[1], timeout=10) as answer:
            assert answer.headers["X-Frame-Options"] == "deny"
            assert b"hisparse_engine_up" in answer.read()
    finally:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_one_line(cache: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(cache, tmp_path / "stats", "--listen", f"127.0.0.1:{port}")
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    [line] = errors.splitlines()
    assert line.startswith(f"Error: cannot listen on 127.0.0.1:{port}: the port is in use")


def test_a_second_engine_of_the_same_name_is_refused(
    demo: subprocess.Popen[str], cache: Path, tmp_path: Path
) -> None:
    lines_until(demo, "Decode batch")
    second = start(cache, tmp_path / "stats", "--duration", "1")
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    [line] = errors.splitlines()
    assert "--engine-name" in line


def test_an_unwritable_stats_folder_is_one_line(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(cache, tmp_path / "file" / "stats")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    [line] = errors.splitlines()
    assert line.startswith("Error: stats folder ")
    assert "--stats-dir" in line
