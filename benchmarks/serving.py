"""Load any OpenAI-compatible server and measure what its clients see; ``--help`` says how.

python benchmarks/serving.py --rate 1 --duration 60 --out run.json --plot run.png
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

from benchmarks.load_generator.cli import command  # noqa: E402 - the path comes first

if __name__ == "__main__":
    command(prog_name="benchmarks/serving.py")
