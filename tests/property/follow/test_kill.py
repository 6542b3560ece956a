"""kill -9 at any step of a real process: the next one has its counters, and exactly the lines not in them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest


class Log:
    """A log of numbered lines that is rotated by renaming, and never deleted."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.log"
        self.lines = 0
        self.rotations = 0

    def write(self, count: int) -> None:
        with self.path.open("a") as file:
            for number in range(self.lines, self.lines + count):
                file.write(f"line {number}\n")
        self.lines += count

    def rotate(self) -> None:
        self.rotations += 1
        self.path.rename(self.path.with_name(f"x.log.{self.rotations}"))
        self.path.touch()


def start(log: Path, state: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.property.follow.counting_process", str(log), str(state)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def let_go_on(process: subprocess.Popen[str], steps: int, until: str) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n" * steps)
    for line in process.stdout:
        steps -= line == "committed\n"
        if steps == 0 or (steps == 1 and line.strip() == until):
            return


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("seed", range(3))
def test_kill_between_any_two_steps(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    log, state = Log(tmp_path), tmp_path / "state.json"
    for _ in range(8):
        process = start(log.path, state)
        log.write(rng.randrange(60))
        let_go_on(process, rng.randrange(1, 5), until=rng.choice(["counted", "committed"]))
        if rng.random() < 0.5:
            log.rotate()
        kill(process)
    process = start(log.path, state)
    let_go_on(process, 80, until="committed")
    kill(process)
    counted = json.loads(state.read_text())["extra"]
    assert counted == {f"line {number}": 1 for number in range(log.lines)}
