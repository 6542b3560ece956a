"""The checks of the GPU kernels under compute-sanitizer: memcheck and racecheck, side by side, with one summary.

    python -m tests.gpu.sanitize --out benchmarks/results/gpu_sanitizer.json [--checks swap_in ...] [--jobs 4]

Each check runs in its ``--quick`` form. A control, a kernel that cannot race (see :mod:`tests.gpu.racecheck_control`),
tells which reports of racecheck mean nothing. Exits 1 if a check fails, or if anything is reported but the
control's kind of hand-over and races within cuBLAS.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

TOOLS = ("memcheck", "racecheck")
CHECKS: dict[str, tuple[str, ...]] = {
    "swap_in": ("tests.gpu.swap_in_ops", "--quick"),
    "select": ("tests.gpu.select_ops", "--quick"),
    "attend": ("tests.gpu.attend_ops", "--quick"),
    "model": ("tests.gpu.model_ops", "--quick", "--parts", "operations", "pass", "--shapes", "GLM-5"),
    "control": ("tests.gpu.racecheck_control",),
}
_MEANINGLESS = ("hand_over", "hopper", "nvjet")
"""In names of kernels whose reported races say nothing: the control, what hands over as it does, and cuBLAS's own."""
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
_RACE = re.compile(r"Error: Race reported between \w+ access at ([\w:<>, ]+?)\+0x")


@dataclass
class Outcome:
    """What one tool said of one check."""

    check: str
    tool: str
    finished: bool
    passed: bool
    """The check's own verdict."""
    reports: int | None
    """Errors or hazards; None when there is no summary, because the time was up."""
    kernels: dict[str, int] = field(default_factory=dict)
    """Races by the kernel they are reported in."""
    seconds: float = 0.0


def run(check: str, tool: str, limit: float, logs: Path) -> Outcome:
    """Run one check under one tool; its output is left in ``logs``."""
    module, *options = CHECKS[check]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = [] if check == "control" else ["--out", f"{folder}/out.json"]
        command = ["compute-sanitizer", "--tool", tool, sys.executable, "-m", module, *options, *out]
        with (logs / f"{check}.{tool}.txt").open("w+") as log:
            try:
                rc = subprocess.run(
                    command, stdout=log, stderr=subprocess.STDOUT, timeout=limit, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                rc = None
            log.seek(0)
            text = log.read()
    summary = _SUMMARY.search(text)
    return Outcome(
        check,
        tool,
        finished=rc is not None,
        passed=rc == 0,
        reports=int(summary[1]) if summary else None,
        kernels=dict(Counter(_RACE.findall(text))),
        seconds=round(time.perf_counter() - started, 1),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, print and write what came of them as they end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--jobs", type=int, default=4, help="at a time; they share the GPU")
    parser.add_argument("--seconds", type=float, default=300.0, help="the most that one of them may take")
    parser.add_argument("--logs", type=Path, help="keep what they print here")
    given = parser.parse_args(arguments)
    if shutil.which("compute-sanitizer") is None:
        parser.error("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        logs = given.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        jobs = [
            pool.submit(run, check, tool, given.seconds, logs)
            for check, tool in product(given.checks, given.tools)
        ]
        for job in jobs:
            outcomes.append(job.result())
            print(outcomes[-1], flush=True)
            given.out.write_text(report(outcomes))
    return 0 if all(is_clean(outcome) for outcome in outcomes) else 1


def is_clean(outcome: Outcome) -> bool:
    """Whether a check passed and nothing that means something was reported."""
    meaningless = all(any(part in kernel for part in _MEANINGLESS) for kernel in outcome.kernels)
    only_races = bool(outcome.kernels) and meaningless
    return outcome.finished and outcome.passed and (outcome.reports == 0 or only_races)


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the results so far as JSON."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    version = subprocess.run(
        ["compute-sanitizer", "--version"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    about = {
        "check": "kernels under compute-sanitizer",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": gpu,
        "compute_sanitizer": version[-1] if version else None,
        "rows": [asdict(outcome) for outcome in outcomes],
    }
    return json.dumps(about, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
