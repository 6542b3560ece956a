"""Makes ``lengths.csv``: invented lengths for a small model on a small machine, not a recording of anybody's traffic.

    python benchmarks/data/make_lengths.py > benchmarks/data/lengths.csv

200 independent draws from log-normal distributions, which is the usual shape of such lengths: prompts with median 300
and sigma 0.6, kept within 16 to 1500 tokens; answers with median 32 and sigma 0.6, kept within 4 to 200.
"""

from __future__ import annotations

import math
import random
import sys

ROWS = 200


def draw(chance: random.Random, median: float, sigma: float, least: int, most: int) -> int:
    return min(max(round(chance.lognormvariate(math.log(median), sigma)), least), most)


def rows() -> list[tuple[int, int]]:
    chance = random.Random(5)
    return [(draw(chance, 300, 0.6, 16, 1500), draw(chance, 32, 0.6, 4, 200)) for _ in range(ROWS)]


if __name__ == "__main__":
    sys.stdout.write("prompt_tokens,output_tokens\n")
    sys.stdout.writelines(f"{prompt},{output}\n" for prompt, output in rows())
