"""``hisparse top`` in a real terminal, over real pages and a real exporter: it draws, obeys, survives, and leaves clean."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from tests.support.fake_engine import busy_step, stepping
from tests.support.pseudo_terminal import PseudoTerminal, in_terminal
from tests.unit.metrics.support import IDENTITY

PROGRAM = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')"]
TOP = [*PROGRAM, "top", "--interval", "0.2"]
ENGINE = """
import sys, time
from pathlib import Path
from hisparse_metrics.recorder import Recorder
from tests.support.fake_engine import busy_step
from tests.unit.metrics.support import IDENTITY
with Recorder(Path(sys.argv[1]), IDENTITY) as recorder:
    for n in range(1, 1_000_000):
        recorder.publish(busy_step(n, time.time()))
        time.sleep(0.02)
"""


@pytest.fixture
def stats(tmp_path: Path) -> Iterator[Path]:
    """A folder in which an engine steps."""
    with stepping(tmp_path / "stats", IDENTITY):
        yield tmp_path / "stats"


def exporter_of(stats: Path, port: int = 0) -> Exporter:
    return Exporter(PageCollector(PageFolder(stats)), port=port)


def host_tokens(text: str) -> int:
    found = re.search(r"#cpu-token: +([\d,]+) of 10,000", text)
    return int(found[1].replace(",", "")) if found else 0


def test_it_draws_updates_and_leaves(stats: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats)) as terminal:
        first = terminal.until("test: ● up", "800 of 1,000", "80%", "hit ratio: 90.0%")
        assert "#running-req: 4" in first
        assert "#queue-req: 2" in first
        before = host_tokens(first)
        terminal.until(lambda text: host_tokens(text) > before)
        terminal.until("step p50: 12.", "up for:", "cpu token usage", "gen throughput (token/s)")
        terminal.type(b"q")
        assert terminal.ended() == 0
        terminal.assert_restored()
        assert "Traceback" not in terminal.text


def test_an_exporters_address_in_color(stats: Path) -> None:
    with exporter_of(stats) as exporter, in_terminal(*TOP, exporter.url, COLORTERM="truecolor") as terminal:
        terminal.until(exporter.metrics_url, "hit ratio: 90.0%", lambda text: host_tokens(text) > 0)
        colors = {cell.fg for line in terminal.cells.values() for cell in line.values()}
        assert {"0072b2", "e69f00"} <= colors, "the dashboards' colours of device and host"


def test_no_color_is_respected(stats: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats), NO_COLOR="1", COLORTERM="truecolor") as terminal:
        terminal.until("test: ● up", "hit ratio: 90.0%")
        assert {cell.fg for line in terminal.cells.values() for cell in line.values()} == {"default"}
        assert {cell.bg for line in terminal.cells.values() for cell in line.values()} == {"default"}


@pytest.mark.parametrize(
    ("leave", "code"),
    [(b"\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP", "SIGINT"],
)
def test_every_way_to_leave_restores_the_terminal(
    stats: Path, leave: bytes | signal.Signals, code: int
) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats)) as terminal:
        terminal.until("test: ● up")
        terminal.type(leave) if isinstance(leave, bytes) else terminal.process.send_signal(leave)
        assert terminal.ended() == code
        terminal.assert_restored()
        assert "Traceback" not in terminal.text


def test_a_lost_connection_ends_it(stats: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats)) as terminal:
        terminal.until("test: ● up")
        assert terminal.hang_up() == 129


def test_a_defect_of_ours_restores_the_terminal_before_it_is_shown(stats: Path) -> None:
    broken = (
        "import sys; from hisparse_metrics.top import app\n"
        "app.screen = lambda *_: 1 / 0\n"
        "from hisparse_engine.cli import main; main(sys.argv[1:])"
    )
    with in_terminal(sys.executable, "-c", broken, "top", "--stats-dir", str(stats), lines=60) as terminal:
        assert terminal.ended() == 1
        terminal.assert_restored()
        assert terminal.raw.rfind(b"ZeroDivisionError") > terminal.raw.rfind(b"\x1b[?1049l")


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Path]:
    """A folder with thirty ranks, the later the fuller."""
    with ExitStack() as stack:
        for rank in range(30):
            recorder = stack.enter_context(Recorder(tmp_path / "ranks", replace(IDENTITY, dp_rank=rank)))
            recorder.publish(busy_step(40 * rank, 1_795_000_000.0))
        yield tmp_path / "ranks"


def cursor_of(terminal: PseudoTerminal, name: str) -> str:
    return terminal.until(lambda text: re.search(rf"^▸. {name} ", text, re.MULTILINE) is not None)


def test_keys_and_sizes_with_many_ranks(ranks: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(ranks)) as terminal:
        assert "RANK 1/30" in cursor_of(terminal, "test dp29"), "the fullest first"
        terminal.type(b"j")
        cursor_of(terminal, "test dp28")
        terminal.type(b"\x1b[B\x1b[B")
        cursor_of(terminal, "test dp26")
        terminal.type(b"G")
        cursor_of(terminal, "test dp0")
        terminal.type(b"\x1b[5~")
        cursor_of(terminal, "test dp12")
        for order in ("worst state", "tokens/s", "lowest hit ratio", "name"):
            terminal.type(b"s")
            terminal.until(f"sort: {order}")
        cursor_of(terminal, "test dp0")
        terminal.type(b"?")
        terminal.until("hisparse top: help", "retractions: running requests")
        terminal.type(b"\x1b")
        terminal.until("RANK 1/30")
        terminal.resize(200, 40)
        terminal.until("HIT TREND", "RESERVED", "LAST")
        terminal.resize(40, 12)
        terminal.until(lambda text: "TOKEN/S" not in text and "RANK 1/30" in text)
        terminal.resize(10, 3)
        terminal.until("window too")
        terminal.resize(80, 24)
        terminal.until("RANK 1/30", "TOKEN/S")
        terminal.type(b"q")
        assert terminal.ended() == 0
        terminal.assert_restored()


def test_pause_holds_the_screen_and_not_the_reading(stats: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats)) as terminal:
        terminal.until(lambda text: host_tokens(text) > 0)
        terminal.type(b"p")
        held = host_tokens(terminal.until("PAUSED"))
        with exporter_of(stats) as exporter:  # time passes: two scrapes, an interval apart
            done = once(exporter.url)
        assert host_tokens(done.stdout) > held
        terminal.type(b"?")
        terminal.until("hisparse top: help")
        terminal.type(b"?")
        shown = terminal.until("PAUSED", lambda text: host_tokens(text) > 0)  # a screen arrives in pieces
        assert host_tokens(shown) == held, "drawn anew, from what was"
        terminal.type(b"p")
        terminal.until(lambda text: "PAUSED" not in text and host_tokens(text) > held)


def test_an_engine_dies_and_comes_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENGINE, str(tmp_path)]
    with in_terminal(*TOP, "--stats-dir", str(tmp_path)) as terminal:
        terminal.until("no engine publishes in")
        engine = subprocess.Popen(command)
        try:
            terminal.until("test: ● up", "hit ratio: 90.0%")
        finally:
            engine.kill()
            engine.wait(10)
        terminal.until("test: ✕ down", lambda text: "#cpu-token: -" in text)
        engine = subprocess.Popen(command)
        try:
            terminal.until("test: ● up", "hit ratio: 90.0%")
        finally:
            engine.kill()
            engine.wait(10)


def test_an_exporter_goes_away_and_comes_back(stats: Path) -> None:
    with exporter_of(stats) as exporter:
        port = exporter.port
    with in_terminal(*TOP, f"127.0.0.1:{port}") as terminal:
        terminal.until("connection refused", "trying again every 0.2s")
        with exporter_of(stats, port):
            terminal.until("test: ● up", lambda text: "refused" not in text)
        terminal.until("connection refused", "last read", "test: ? unread")
        with exporter_of(stats, port):
            terminal.until("test: ● up", lambda text: "refused" not in text)
        terminal.type(b"q")
        assert terminal.ended() == 0


def test_a_source_that_hangs_does_not_hold_the_keys() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        in_terminal(*TOP, f"127.0.0.1:{silent.getsockname()[1]}") as terminal,
    ):
        terminal.until("reading http://")
        terminal.type(b"q")
        assert terminal.ended() == 0
        terminal.assert_restored()


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(stats: Path) -> None:
    dash = shutil.which("dash")
    if dash is None:
        pytest.skip("dash is not on PATH: no shell with job control that leaves a terminal's settings alone")
    environment = {"PS1": "ready> ", "PYTHONPATH": ":".join(sys.path)}
    with in_terminal(dash, "-im", columns=100, **environment) as shell:

        def prompts(count: int) -> Callable[[str], bool]:
            return lambda _: shell.raw.count(b"ready>") == count

        shell.until(prompts(1))
        shell.type(f"{sys.executable} -m hisparse_engine top --interval 0.2 --stats-dir {stats}\n".encode())
        shell.until("test: ● up")
        shell.type(b"\x1a")
        shell.until("Stopped", prompts(2))
        shell.assert_restored()
        entered = shell.raw.count(b"\x1b[?1049h")
        shell.type(b"fg\n")
        shell.until("test: ● up", lambda _: shell.raw.count(b"\x1b[?1049h") > entered)
        shell.type(b"q")
        shell.until(prompts(3))
        shell.type(b"exit\n")
        assert shell.ended() == 0
        shell.assert_restored()


def once(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *arguments], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )  # fmt: skip


def test_without_a_terminal_it_prints_one_snapshot(stats: Path) -> None:
    done = once("--stats-dir", str(stats))
    assert (done.returncode, done.stderr) == (0, "")
    assert "test: up\n" in done.stdout
    assert "hit ratio: 90.0%" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_for_programs(stats: Path) -> None:
    done = once("--stats-dir", str(stats), "--json")
    [rank] = json.loads(done.stdout)["ranks"]
    assert (rank["state"], rank["host_capacity"], rank["hit_ratio"]) == ("up", 10_000, pytest.approx(0.9))
    assert 0 < rank["tokens_per_second"] <= 4 / 0.02


def test_a_dumb_terminal_gets_text(stats: Path) -> None:
    with in_terminal(*TOP, "--stats-dir", str(stats), TERM="dumb") as terminal:
        assert terminal.ended() == 0
        assert "\x1b" not in terminal.raw.decode()
        assert "test: up" in terminal.text


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    for arguments, expected in (
        (("--once", f"127.0.0.1:{port}"), "connection refused"),
        (("gopher://x",), "give http://HOST:PORT"),
        (("127.0.0.1:1", "--stats-dir", str(tmp_path)), "not both"),
        (("--stats-dir", __file__), "not a readable folder"),
    ):
        done = once(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert done.stderr.startswith("Error: ")
        assert expected in done.stderr


def test_without_rich_it_says_what_to_install_and_still_prints(stats: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "rich"
    blocked.mkdir(parents=True)
    reason = "raise ModuleNotFoundError(\"No module named 'rich'\", name='rich')"
    (blocked / "__init__.py").write_text(reason)
    path = os.pathsep.join([str(blocked.parent), *sys.path])
    with in_terminal(*TOP, "--stats-dir", str(stats), columns=160, PYTHONPATH=path) as terminal:
        assert terminal.ended() == 1
        assert "pip install 'hisparse[top]'" in terminal.text
        assert "Traceback" not in terminal.text
    assert "test: up" in once("--stats-dir", str(stats), "--once", PYTHONPATH=path).stdout
