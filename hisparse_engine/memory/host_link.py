"""The link between the tiers as streams: what goes down to the host, what comes up, and what waits for what.

Copies run beside the computation. All copies to the host are in one order, so that a slot's next owner never loses to
the row of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Copy = Callable[[], None]


class HostLink(Protocol):
    """Runs copies in an order of their own; ``mark`` and ``wait_for`` tie it to the computation's."""

    def send(self, copy: Copy) -> torch.cuda.Event | None:
        """Copy to the host once the computation so far is done; the event says when it has arrived."""

    def fetch(self, copy: Copy) -> torch.cuda.Event | None:
        """Copy from the host once the computation so far, and all that was sent, is done."""

    def wait_for(self, event: torch.cuda.Event | None) -> None:
        """Make the computation wait for a copy; the host does not wait."""

    def wait_for_sent(self) -> None:
        """Make the computation wait for everything that was sent so far."""

    def synchronize(self) -> None:
        """Wait, on the host, until every copy has ended."""


class ImmediateLink:
    """The link of a device without streams: a copy is done when the call returns."""

    def send(self, copy: Copy) -> None:
        """Copy."""
        copy()

    def fetch(self, copy: Copy) -> None:
        """Copy."""
        copy()

    def wait_for(self, event: torch.cuda.Event | None) -> None:
        """Nothing to wait for."""

    def wait_for_sent(self) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class CudaLink:
    """One stream down, one stream up, beside whatever stream computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._down = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._up = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def _computation(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self._device)

    def send(self, copy: Copy) -> torch.cuda.Event:
        """Copy on the stream down."""
        self._down.wait_stream(self._computation)
        return self._run(self._down, copy)

    def fetch(self, copy: Copy) -> torch.cuda.Event:
        """Copy on the stream up."""
        self._up.wait_stream(self._computation)
        self._up.wait_stream(self._down)
        return self._run(self._up, copy)

    def _run(self, stream: torch.cuda.Stream, copy: Copy) -> torch.cuda.Event:
        with torch.cuda.stream(stream):
            copy()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(stream)
        return event

    def wait_for(self, event: torch.cuda.Event | None) -> None:
        """Make the computation's stream wait."""
        if event is not None:
            self._computation.wait_event(event)

    def wait_for_sent(self) -> None:
        """Make the computation's stream wait for the stream down."""
        self._computation.wait_stream(self._down)

    def synchronize(self) -> None:
        """Wait for both streams."""
        self._down.synchronize()
        self._up.synchronize()


def make_link(device: torch.device) -> HostLink:
    """Return the link that fits ``device``."""
    return CudaLink(device) if device.type == "cuda" else ImmediateLink()
