"""Sources and their state file together: lines out, counts back, and never a line counted twice or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from hisparse_metrics.follow.source import Json, LineBatch, Source
from hisparse_metrics.follow.state import REMEDY, State, StateError, StateFile

DEFAULT_POLL_BYTES = 4 << 20


class Waker(Protocol):
    """Decides when to look again."""

    def wait(self) -> None:
        """Return when it is time for the next poll."""


class IntervalWaker:
    """Looks again after a fixed time."""

    def __init__(self, interval_seconds: float = 0.25, sleep: Callable[[float], object] = time.sleep) -> None:
        self._interval = interval_seconds
        self._sleep = sleep

    def wait(self) -> None:
        """Sleep for the interval."""
        self._sleep(self._interval)


class Follower:
    """Polls sources, and commits their positions together with what the consumer counted.

    The consumer counts all that :meth:`poll` returned, then calls :meth:`commit` with everything that it wants to
    find again in :attr:`extra` after a restart. Killed at any moment, the next process continues from the last
    commit: with its counters, and with exactly the lines that are not in them.

    Raises :class:`~hisparse_metrics.follow.state.StateError` when the state file cannot be read, or not be written.
    """

    def __init__(self, sources: Iterable[Source], state_file: StateFile | None = None) -> None:
        self.sources = tuple(sources)
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("two sources have the same name: their positions would overwrite each other")
        self._state_file = state_file
        state = state_file.load() if state_file else None
        self.is_restart = state is not None
        self.extra: Json = state.extra if state else {}
        if state and state_file:
            self._resume(state, state_file)
        if state_file:
            self._begin()

    @property
    def keeps_state(self) -> bool:
        """Whether a commit writes a file."""
        return self._state_file is not None

    def poll(self, max_bytes: int = DEFAULT_POLL_BYTES) -> list[LineBatch]:
        """Return new lines of all sources, reading at most ``max_bytes`` from each."""
        return [batch for source in self.sources for batch in source.poll(max_bytes)]

    def commit(self, extra: Json) -> None:
        """Remember that all lines returned so far are counted, in ``extra``.

        Raises :class:`~hisparse_metrics.follow.state.StateError`; may be called again later.
        """
        self.extra = extra
        if self._state_file:
            positions = {source.name: source.position() for source in self.sources}
            self._state_file.save(State(positions, extra))

    def run(self, consume: Callable[[Sequence[LineBatch]], bool], waker: Waker) -> None:
        """Poll and consume until ``consume`` returns False; wait only when there was nothing to read."""
        while True:
            batches = self.poll()
            if not consume(batches):
                return
            if not batches:
                waker.wait()

    def _begin(self) -> None:
        """Find the sources and commit before anything is read: a kill during the first poll loses nothing."""
        for source in self.sources:
            source.poll(0)
        self.commit(self.extra)

    def _resume(self, state: State, state_file: StateFile) -> None:
        for source in self.sources:
            try:
                if source.name in state.positions:
                    source.resume(state.positions[source.name])
            except ValueError as error:
                raise StateError(state_file.path, f"{source.name}: {error}", REMEDY) from error

    def close(self) -> None:
        """Release all sources and the state file, without a commit."""
        for source in self.sources:
            source.close()
        if self._state_file:
            self._state_file.unlock()
