"""Whether the server takes work now, and why not."""

from __future__ import annotations

import enum

from hisparse_engine.server.errors import engine_failed, shutting_down, unavailable


class Phase(enum.Enum):
    """The life of a server, in this order; it can skip phases, never go back."""

    LOADING = "loading"
    OPEN = "ok"
    DRAINING = "draining"
    FAILED = "failed"


class Gate:
    """Holds the phase; every request for work passes :meth:`check`."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING

    def move_to(self, phase: Phase) -> None:
        """Enter a later phase; an earlier one is ignored."""
        phases = list(Phase)
        self.phase = max(self.phase, phase, key=phases.index)

    def check(self) -> None:
        """Return if the server takes work, raise the answer otherwise."""
        match self.phase:
            case Phase.LOADING:
                raise unavailable("the model is still being loaded", "loading", 5)
            case Phase.DRAINING:
                raise shutting_down()
            case Phase.FAILED:
                raise engine_failed("the engine process has ended; the server is about to restart or exit")
            case Phase.OPEN:
                return
