"""One computation for all who ask at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Coalesced(Generic[T]):
    """Gives every caller a result whose computation began after the call, however many call at once.

    Who comes while a computation runs waits for the next one, together with all others who came meanwhile: a storm
    of callers costs two computations, none gets a stale result, and nothing is kept when nobody asks.
    """

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute = compute
        self._next: Future[T] | None = None
        self._lock = Lock()
        self._turn = Lock()

    def get(self) -> T:
        """Return a fresh result, or raise what the computation raised."""
        with self._lock:
            leads = self._next is None
            future = self._next = self._next or Future()
        if leads:
            with self._turn:
                self._run(future)
        return future.result()

    def _run(self, future: Future[T]) -> None:
        with self._lock:
            self._next = None
        try:
            future.set_result(self._compute())
        except BaseException as error:  # noqa: BLE001 - belongs to everybody who waits for it
            future.set_exception(error)
