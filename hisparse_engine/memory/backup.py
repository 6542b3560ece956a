"""Backup: new rows on their way from the device to their host slots, without making the step wait."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from hisparse_engine.memory.pool import TokenPool


class Backup:
    """One step's new rows of all layers: one copy off the device, then one scatter when it has arrived."""

    def __init__(
        self, rows: torch.Tensor, home: npt.NDArray[np.int64], event: torch.cuda.Event | None
    ) -> None:
        self._rows, self._home, self._event = rows, home, event

    @classmethod
    def start(cls, rows: torch.Tensor, home: npt.NDArray[np.int64]) -> Backup:
        """Begin to move ``rows [layers, batch, row_dim]`` to host slots ``home [batch]``."""
        if rows.device.type == "cpu":
            return cls(rows, home, None)
        landing = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        landing.copy_(rows, non_blocking=True)
        return cls(landing, home, record_event(rows.device))

    def finish(self, host_pool: TokenPool) -> int:
        """Wait for the copy, write the rows to their host slots, and return the bytes moved."""
        if self._event is not None:
            self._event.synchronize()
        host_pool.rows.index_copy_(1, torch.from_numpy(self._home), self._rows)
        return self._rows.numel() * self._rows.element_size()


def record_event(device: torch.device) -> torch.cuda.Event | None:
    """Mark this point of the current stream; None on a device that has no streams."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
