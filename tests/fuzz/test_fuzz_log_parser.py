from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).with_name("fuzz_log_parser.py")
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "sglang_sample.jsonl"
SECONDS = int(os.environ.get("HISPARSE_FUZZ_SECONDS", "10"))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_fuzzing_for_a_bounded_time_finds_nothing(tmp_path: Path) -> None:
    """Starts from the sample. A unit of 4 KiB that takes five seconds is a finding too."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, row in enumerate(SAMPLE.read_text().splitlines()):
        (corpus / f"{number}").write_text(json.loads(row)["line"])

    done = subprocess.run(
        [sys.executable, str(TARGET), f"-max_total_time={SECONDS}", "-timeout=5", "-max_len=4096",
         f"-artifact_prefix={tmp_path}/", str(corpus)],
        cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS + 120, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'metrics'}"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
