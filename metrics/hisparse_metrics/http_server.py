"""Accepts connections on several addresses and gives each a thread and one of a bounded number of places."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import cast

from hisparse_metrics.web.connection import Connection, render_head
from hisparse_metrics.web.gate import Gate
from hisparse_metrics.web.limits import Limits
from hisparse_metrics.web.messages import Request, Response, text_response
from hisparse_metrics.web.places import Place, Places
from hisparse_metrics.web.policy import PolicyFile

_log = logging.getLogger(__name__)
_ACCEPT_PAUSE_SECONDS = 0.05


class SiteServer:
    """Serves ``respond`` on ``listeners``, which it owns, under the policy of the moment."""

    def __init__(
        self, listeners: Sequence[socket.socket], respond: Callable[[Request], Response],
        policy: PolicyFile, limits: Limits,
    ) -> None:  # fmt: skip
        self._listeners = tuple(listeners)
        self._gate = Gate(respond, policy)
        self._policy = policy
        self._limits = limits
        self._places = Places(limits.max_connections)
        self._stopping = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._accept_all, name="hisparse-exporter", daemon=True)

    def start(self) -> None:
        """Accept in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut idle clients off. Requests being answered end with their threads."""
        self._stopping.set()
        self._waker.send(b"x")
        self._thread.join()
        for end in (self._wake, self._waker, *self._listeners):
            end.close()
        self._places.cut_waiting()

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in (self._wake, *self._listeners):
                listener.setblocking(False)
                selector.register(listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select():
                    if key.fileobj is not self._wake:
                        self._accept(cast(socket.socket, key.fileobj))

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.warning("cannot accept a connection: %s", error)
            self._stopping.wait(_ACCEPT_PAUSE_SECONDS)
            return
        self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place = self._places.take(connection)
        if place is None:
            return self._refuse(connection)
        try:
            threading.Thread(target=self._serve, args=(place,), name="hisparse-client", daemon=True).start()
        except RuntimeError as error:
            _log.warning("cannot serve a client: %s", error)
            self._places.leave(place)
        return None

    def _serve(self, place: Place) -> None:
        connection = Connection(place, self._places, self._gate.respond, self._limits)
        connection.serve(self._policy.current().tls)

    def _refuse(self, connection: socket.socket) -> None:
        """Say that every place is taken, as far as that goes without waiting and in the clear."""
        with connection:
            if self._policy.current().tls is None:
                _send_at_once(connection, _BUSY)


def _send_at_once(connection: socket.socket, data: bytes) -> None:
    try:
        connection.setblocking(False)
        connection.send(data)
    except OSError:
        _log.debug("could not tell a client that the exporter is busy")


_BUSY_RESPONSE = text_response(
    HTTPStatus.SERVICE_UNAVAILABLE, "every connection is being answered; come back", Retry_After="1"
)
_BUSY = render_head(_BUSY_RESPONSE, keep_alive=False) + _BUSY_RESPONSE.body
