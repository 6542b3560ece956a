"""``hisparse sidecar`` as a person runs it: real processes, real files, real pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.metrics.support import make_step, published
from tests.unit.sidecar.process import ROOT, WAIT_S, Sidecar, environment
from tests.unit.sidecar.support import ACCESS, CRASH, NO_HOST, decode, prefill


def append(log: Path, *lines: str) -> None:
    """Write whole lines."""
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``hisparse sidecar`` to its end."""
    command = [sys.executable, "-m", "hisparse_engine", "sidecar", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_a_growing_log_is_live_and_new_files_are_found(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, decode(1), prefill(1000))
    with Sidecar("--sglang-log", tmp_path / "*.log", "--model", "glm-5") as sidecar:
        sidecar.wait_for("hisparse_source_up", 1)
        append(log, decode(2), prefill(5))
        sidecar.wait_for("hisparse_host_tokens", 2, model_name="glm-5", source=str(log))
        assert sidecar.value("hisparse_prompt_tokens_total") == 5, "starts at the end by default"
        append(tmp_path / "b.log", decode(7))
        sidecar.wait_for("hisparse_host_tokens", 7, source=str(tmp_path / "b.log"))
        log.rename(tmp_path / "a.log.1")
        append(log, decode(3), NO_HOST)
        sidecar.wait_for("hisparse_host_tokens", 3, source=str(log))
        append(log, CRASH)
        sidecar.wait_for("hisparse_engine_up", 0, source=str(log))
        assert sidecar.value("hisparse_host_allocation_failures_total", source=str(log)) == 1
        assert sidecar.stop() == 0


def test_levels_vanish_after_silence(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    with Sidecar("--sglang-log", log, "--stale-after", "1.5") as sidecar:
        sidecar.wait_for("hisparse_source_up", 1)
        append(log, decode(host_usage="0.97"))
        sidecar.wait_for("hisparse_host_token_usage", 0.97)
        sidecar.wait_for("hisparse_host_token_usage", None)
        assert sidecar.value("hisparse_source_last_sample_timestamp_seconds")


def test_kill_9_neither_repeats_nor_skips_and_counters_never_fall(tmp_path: Path) -> None:
    log, state = tmp_path / "a.log", tmp_path / "state.json"
    arguments = ("--sglang-log", log, "--state-file", state, "--from-start")
    written, seen = 0, [0.0]
    log.touch()
    for life in range(4):
        append(log, *[prefill(1)] * 50)  # Written while no sidecar lives.
        written += 50
        with Sidecar(*arguments) as sidecar:
            for _ in range(5):
                append(log, *[prefill(1)] * 20)
                written += 20
                seen.append(sidecar.value("hisparse_prompt_tokens_total") or 0.0)
            if life == 3:
                sidecar.wait_for("hisparse_prompt_tokens_total", written)
                assert sidecar.stop(signal.SIGINT) == 0
            else:
                assert sidecar.stop(signal.SIGKILL) == -signal.SIGKILL
    assert seen == sorted(seen)
    assert json.loads(state.read_text())["version"] == 1
    assert state.stat().st_mode & 0o007 == 0
    with Sidecar(*arguments) as sidecar:
        sidecar.wait_for("hisparse_prompt_tokens_total", written)


def test_kill_9_within_a_line_that_the_container_runtime_cut(tmp_path: Path) -> None:
    log, state = tmp_path / "0.log", tmp_path / "state.json"
    log.touch()
    stamp = "2026-08-23T09:10:52.123456789Z stderr"
    line, counter = prefill(1), "hisparse_prompt_tokens_total"
    for life in range(1, 4):
        with Sidecar("--cri", log, "--state-file", state) as sidecar:
            append(log, f"{stamp} F {line[40:]}", f"{stamp} F {ACCESS}", f"{stamp} P {line[:40]}")
            sidecar.wait_for("hisparse_source_lines_total", 3 * life)
            assert sidecar.value(counter) == (life - 1 or None)
            assert sidecar.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_second_sidecar_with_the_same_state_file_says_so_and_ends(tmp_path: Path) -> None:
    arguments = ("--sglang-log", tmp_path / "a.log", "--state-file", tmp_path / "state.json")
    with Sidecar(*arguments) as first:
        second = run(*arguments, "--web.listen-address", "127.0.0.1:0")
        assert second.returncode == 1
        assert "state.json: another process uses it" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    with Sidecar(*arguments) as third:
        assert third.scrape()


def test_standard_input_goes_on_unchanged_and_its_end_is_the_end(tmp_path: Path) -> None:
    data = (decode(5) + "\n" + prefill(9) + "\r\n").encode() + bytes(range(256)) + b"\nno newline"
    with Sidecar(
        "--sglang-log", "-", "--tee", "--stale-after", "3", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sidecar:
        stdin, stdout = sidecar.process.stdin, sidecar.process.stdout
        assert stdin
        assert stdout
        stdin.write(data)
        stdin.flush()
        sidecar.wait_for("hisparse_host_tokens", 5)
        stdin.close()
        sidecar.process.stdin = None
        sidecar.wait_for("hisparse_engine_up", 0)
        assert sidecar.value("hisparse_prompt_tokens_total", source="stdin") == 9
        assert stdout.read() == data
        assert sidecar.process.wait(timeout=WAIT_S) == 0


def test_a_closed_standard_output_does_not_end_the_engine() -> None:
    reader, writer = os.pipe()
    with Sidecar("--sglang-log", "-", "--tee", stdin=subprocess.PIPE, stdout=writer) as sidecar:
        os.close(writer)
        os.close(reader)
        assert sidecar.process.stdin
        for host in range(1, 2000):
            sidecar.process.stdin.write(decode(host).encode() + b"\n")
        sidecar.process.stdin.flush()
        sidecar.wait_for("hisparse_host_tokens", 1999)


def test_a_signal_lets_the_engine_say_its_last_words() -> None:
    """Ctrl-C goes to both ends of a pipe: leaving first would break the engine's output."""
    with Sidecar("--sglang-log", "-", "--tee", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sidecar:
        stdin, stdout = sidecar.process.stdin, sidecar.process.stdout
        assert stdin
        assert stdout
        sidecar.process.send_signal(signal.SIGINT)
        threading.Event().wait(0.5)
        stdin.write(b"last words\n")
        stdin.close()
        sidecar.process.stdin = None
        assert stdout.read() == b"last words\n"
        assert sidecar.process.wait(timeout=WAIT_S) == 0


def test_a_pattern_that_the_shell_expanded_is_understood(tmp_path: Path) -> None:
    logs = [tmp_path / f"{name}.log" for name in "abc"]
    for log in logs:
        log.touch()
    with Sidecar("--sglang-log", *logs, "--model", "m") as sidecar:
        sidecar.wait_for("hisparse_source_up", 1)
        for number, log in enumerate(logs, start=1):
            append(log, decode(number))
        sidecar.wait_for("hisparse_host_tokens", 6)


def test_pages_and_logs_in_one_exposition_whatever_the_environment(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    (tmp_path / "pages").mkdir()
    recorder = published(tmp_path / "pages")
    env = environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "none"))
    with Sidecar("--sglang-log", log, "--stats-dir", tmp_path / "pages", env=env) as sidecar:
        sidecar.wait_for("hisparse_source_up", 1)
        append(log, decode(41422))
        sidecar.wait_for("hisparse_host_tokens", 41422, engine_name="sglang")
        assert sidecar.value("hisparse_host_tokens", engine_name="test") == make_step().levels.host_tokens
        text = sidecar.scrape() or ""
        assert text.count("# TYPE hisparse_host_tokens gauge") == 1
    assert recorder


def test_a_configuration_file_and_flags(tmp_path: Path) -> None:
    config, log = tmp_path / "sidecar.yaml", tmp_path / "a.log"
    append(log, decode(8))
    config.write_text(f"sources:\n  sglang_log: {log}\nlabels: {{engine_name: east}}\nfrom_start: true\n")
    with Sidecar("--config", config, "--model", "m") as sidecar:
        sidecar.wait_for("hisparse_host_tokens", 8, engine_name="east", model_name="m")
    done = run("check", config)
    assert done.returncode == 0
    assert "host_token_usage=0.29" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to follow"),
        (("--tee", "--journald-unit", "x"), "--tee passes standard input on"),
        (("--config", "/none.yaml"), "cannot read /none.yaml"),
        (("--sglang-log", "/x", "--stale-after", "0"), "stale_after: got 0.0"),
        (("--sglang-log", "/x", "--engine-name", "{node}"), "nobody fills ['node']"),
        (("--sglang-log", "/x", "--state-file", "/none/state"), "state file /none/state"),
    ],
)
def test_a_mistake_is_explained(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_report_and_parse_read_a_finished_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, decode(1, "0.92"), NO_HOST, prefill(7))
    report = run("report", log)
    assert report.returncode == 0
    assert "host usage: peak 0.92" in report.stdout
    parsed = run("parse", log)
    assert [json.loads(line)["line"] for line in parsed.stdout.splitlines()] == [1, 3]


def test_it_needs_nothing_of_the_engine() -> None:
    check = (
        "import sys\n"
        "import hisparse_engine.commands.sidecar, hisparse_engine.commands.sidecar_check\n"
        "import hisparse_engine.commands.sidecar_replay, hisparse_engine.commands.sidecar_report\n"
        "import hisparse_metrics.sidecar.run, hisparse_metrics.sidecar.run_replay, hisparse_metrics.sidecar.report\n"
        "import hisparse_metrics.sidecar.check, hisparse_metrics.sidecar.config_file\n"
        "assert not {'torch', 'numpy', 'pydantic', 'yaml', 'rich', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
