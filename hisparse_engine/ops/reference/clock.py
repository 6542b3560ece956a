"""The host's clock, for operations that are done when they return."""

from __future__ import annotations

import time

import torch


def add_time(total: torch.Tensor, sign: int) -> None:
    """See :meth:`Operations.add_time`."""
    total.add_(sign * time.perf_counter_ns())
