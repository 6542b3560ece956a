"""A bounded number of connections, in which a slow one has to make way for a new one.

Whoever keeps the exporter waiting (a handshake, a request that trickles in, an idle connection, an answer that is not
read) loses the place when a newcomer finds none free: the one that has kept it waiting longest goes first. Slow
clients, however many, so never keep a scrape out. Only when every place is being answered is a newcomer refused.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from threading import Lock


class Place:
    """One connection's place. ``evictable_from`` is when it may be given away: now, later, or never."""

    def __init__(self, connection: socket.socket, evictable_from: float) -> None:
        self.connection = connection
        self.evictable_from = evictable_from

    def hold(self) -> None:
        """Keep the place while the exporter works on the answer."""
        self.evictable_from = math.inf


class Places:
    """The places of all listeners together."""

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._taken: set[Place] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, connection: socket.socket) -> Place | None:
        """Return a place for ``connection``, cutting off another one where it must; ``None`` when none can go."""
        with self._lock:
            if len(self._taken) >= self._limit and not self._evict():
                return None
            place = Place(connection, self._clock())
            self._taken.add(place)
            return place

    def replace(self, place: Place, connection: socket.socket) -> None:
        """Note that another object (TLS) has taken over the place's connection."""
        with self._lock:
            place.connection = connection

    def expect(self, place: Place, grace: float = 0.0) -> None:
        """Say that it is the client's turn from now on; after ``grace`` seconds the place may be given away."""
        place.evictable_from = self._clock() + grace

    def leave(self, place: Place) -> None:
        """Close the connection and free its place."""
        with self._lock:
            self._taken.discard(place)
            place.connection.close()

    def cut_waiting(self) -> None:
        """Cut off every connection that is not being answered."""
        with self._lock:
            while self._evict():
                pass

    def _evict(self) -> bool:
        victim = min(self._taken, key=lambda place: place.evictable_from, default=None)
        if victim is None or victim.evictable_from > self._clock():
            return False
        self._taken.remove(victim)
        _cut(victim.connection)
        return True


def _cut(connection: socket.socket) -> None:
    """End both directions, which wakes the connection's thread. TLS's own shutdown is not safe from another one."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return
