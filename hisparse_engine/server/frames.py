"""Frames on a byte stream: a length, then that many bytes. Knows no socket and no content."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 1 << 30


class FrameError(Exception):
    """What came is no frame: the other side is not ours, or broken."""


def frame(payload: bytes) -> bytes:
    """Return ``payload`` as it goes over the wire."""
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a message of {len(payload)} bytes is larger than {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts what comes, in pieces of any size, into payloads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; return the payloads that are now complete."""
        self._buffer += data
        return self._complete()

    def _complete(self) -> Iterator[bytes]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame announces {length} bytes, more than {MAX_FRAME_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield payload
