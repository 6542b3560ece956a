"""Decode lines that were not read yet: the newest of each writer, and how many it replaced."""

from __future__ import annotations

from collections.abc import Iterable

from hisparse_metrics.sidecar.skim import Decode


class Held:
    """The newest line of a writer, and what it replaced."""

    __slots__ = ("line", "replaced", "replaced_unknown_fields", "verdict")

    def __init__(self, line: bytes, verdict: Decode) -> None:
        self.line = line
        self.verdict = verdict
        self.replaced = self.replaced_unknown_fields = 0

    @property
    def inside(self) -> bytes:
        """The line without what a collector put around it."""
        return self.line[self.verdict.inside]


class HeldLines:
    """Holds lines back until somebody needs to know them."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}

    def hold(self, line: bytes, verdict: Decode) -> None:
        """Hold ``line`` instead of the one of its writer before."""
        writer = line[verdict.writer]
        held = self._held.pop(writer, None)
        if held is None:
            held = Held(line, verdict)
        else:
            held.replaced += 1
            held.replaced_unknown_fields += held.verdict.unknown_fields
            held.line, held.verdict = line, verdict
        self._held[writer] = held

    def take(self) -> Iterable[Held]:
        """Return the newest line of each writer, the last one last, and hold none any more.

        The order matters: two writers as printed may be one rank.
        """
        held, self._held = self._held, {}
        return held.values()
