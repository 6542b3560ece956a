"""A sampled check of the promise that every hot row equals its host row, bit for bit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class VerifyResult(NamedTuple):
    """Rows compared, and rows that differed."""

    checks: int
    mismatches: int


def compare_rows(hot: torch.Tensor, cold: torch.Tensor) -> VerifyResult:
    """Compare ``[rows, width]`` of both tiers as bytes: NaN equals itself, -0.0 does not equal 0.0."""
    same = (hot.cpu().contiguous().view(torch.uint8) == cold.cpu().contiguous().view(torch.uint8)).all(dim=1)
    return VerifyResult(len(same), int((~same).sum()))


class Sampler:
    """Decides when a check is due, and which request and layer it looks at; seeded, so that runs repeat."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._random = np.random.default_rng(0)

    def is_due(self, step: int) -> bool:
        """Whether step number ``step`` is one that checks."""
        return self._every > 0 and step % self._every == 0

    def pick(self, count: int) -> int:
        """Return a uniform index below ``count``."""
        return int(self._random.integers(count))
