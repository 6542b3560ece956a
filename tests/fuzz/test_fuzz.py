"""A bounded time of coverage-guided fuzzing, and proof that its checks can fail."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hisparse_metrics.sglang import LogParser
from hisparse_metrics.sidecar import skim
from tests.fuzz import promises

TARGET = Path(__file__).with_name("fuzz.py")
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "sglang_sample.jsonl"
SECONDS = int(os.environ.get("HISPARSE_FUZZ_SECONDS", "8"))
LINES = [json.loads(row)["line"] for row in SAMPLE.read_text().splitlines()]


def fuzz(target: str, corpus: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("HISPARSE_REQUIRE_PROGRAMS") == "1":
            pytest.fail("atheris is not installed")
        pytest.skip("atheris is not installed: it has builds for x86-64 and Python before 3.14")
    return subprocess.run(
        [sys.executable, str(TARGET), target, "-timeout=5", "-max_len=4096", f"-artifact_prefix={corpus.parent}/",
         *options, str(corpus)],
        cwd=corpus.parent, capture_output=True, text=True, timeout=SECONDS + 120, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'metrics'}"},
    )  # fmt: skip


@pytest.mark.parametrize("target", ["parsing", "skimming"])
def test_fuzzing_for_a_bounded_time_finds_nothing(target: str, tmp_path: Path) -> None:
    """Starts from the sample; the time limit is the process's, so a loaded machine tries fewer inputs."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, line in enumerate(LINES):
        (corpus / f"{number}").write_text(line)

    done = fuzz(target, corpus, f"-max_total_time={SECONDS}")

    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"Done ([0-9]+) runs", done.stderr)
    assert runs, done.stderr[-3000:]
    assert int(runs[1]) > len(LINES), "nothing was tried but the sample"
    assert re.search(r"NEW +cov: [0-9]{3,}", done.stderr), "no coverage guides it"


@pytest.mark.parametrize("line", [*LINES[::10], "x" * 4096, "Decode batch, " * 290])
def test_the_promises_hold_for_the_sample(line: str) -> None:
    promises.takes_linear_time(promises.parsing_holds, line.encode())
    promises.takes_linear_time(promises.skimming_holds, line.encode())


def test_an_exception_and_a_wrong_count_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogParser, "finish", lambda self: setattr(self, "parsed", -1))
    with pytest.raises(AssertionError):
        promises.parsing_holds(b"x")
    monkeypatch.setattr(LogParser, "feed", lambda self, line: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        promises.parsing_holds(b"x")


def test_a_verdict_on_what_a_digit_can_change_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    line = next(line for line in LINES if "Decode batch, " in line and line.startswith("[2"))
    hidden = json.dumps({"log": line + "\n"}).replace("batch", r"\u9937atch")  # A "b" with the other digits.
    promises.skimming_holds(hidden.encode())
    monkeypatch.setattr(skim, "_is_plain", lambda line: True)
    with pytest.raises(AssertionError):
        promises.skimming_holds(hidden.encode())


def test_quadratic_time_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(self: LogParser, line: bytes) -> list[object]:
        return [None for _ in line for _ in line][:0]

    monkeypatch.setattr(LogParser, "feed", feed)
    with pytest.raises(AssertionError, match="more than 0"):
        promises.takes_linear_time(lambda data: LogParser().feed(data) and None, b"x" * 4096)
