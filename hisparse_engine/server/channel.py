"""The engine's end of the wire. Reading waits only when there is nothing else to do; writing never waits.

What the front does not take at once is kept and offered again, so that no front, however busy, delays a step.
"""

from __future__ import annotations

import select
import socket

from hisparse_engine.server.frames import FrameReader, frame
from hisparse_engine.server.messages import Command, Drain, End, Event, Start, Submit, decode, encode

_READ_BYTES = 1 << 18  # between two steps: bounds the time that long prompts take from those that decode


class FrontGoneError(Exception):
    """The front has closed its end, or died."""


class Channel:
    """Takes commands from the front and brings events to it. For one thread."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._reader = FrameReader()
        self._unsent = bytearray()

    def receive(self, *, wait: bool) -> list[Command]:
        """Return the commands that have come; with ``wait``, at least one. :class:`FrontGoneError` at the end."""
        commands = self._read()
        while wait and not commands:
            self._wait_for_traffic()
            commands = self._read()
        return commands

    def send(self, event: Event) -> None:
        """Bring an event to the front, as soon as it takes it."""
        self._unsent += frame(encode(event))
        self._write()

    def flush(self) -> None:
        """Wait until the front has taken everything, or is gone."""
        while self._unsent:
            self._wait(select.POLLOUT)
            self._write()

    def _wait_for_traffic(self) -> None:
        self._wait(select.POLLIN | (select.POLLOUT if self._unsent else 0))
        self._write()

    def _wait(self, events: int) -> None:
        poller = select.poll()  # select() takes no descriptor above 1023
        poller.register(self._connection, events)
        poller.poll()

    def _read(self) -> list[Command]:
        self._write()
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise FrontGoneError from error
        if not data:
            raise FrontGoneError
        return [_command(payload) for payload in self._reader.feed(data)]

    def _write(self) -> None:
        while self._unsent:
            try:
                sent = self._connection.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                raise FrontGoneError from error
            del self._unsent[:sent]


def _command(payload: bytes) -> Command:
    message = decode(payload)
    assert isinstance(message, Start | Submit | End | Drain), f"the front sent {message}"
    return message
