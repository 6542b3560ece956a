"""One connection from handshake to close: reads heads, writes answers, and counts the seconds of both."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from hisparse_metrics.web.limits import Limits
from hisparse_metrics.web.messages import Request, Response, text_response
from hisparse_metrics.web.places import Place, Places
from hisparse_metrics.web.request_head import END_OF_HEAD, BadRequestError, RequestHead, parse_head
from hisparse_metrics.web.tls import ServerTls

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 256 * 1024


class Connection:
    """Serves one client in the calling thread; ``respond`` gives the answers."""

    def __init__(
        self, place: Place, places: Places, respond: Callable[[Request], Response], limits: Limits
    ) -> None:
        self._place = place
        self._places = places
        self._respond = respond
        self._limits = limits
        self._received = b""

    def serve(self, tls: ServerTls | None) -> None:
        """Handshake, then answer requests until one side has enough; always leaves the place."""
        try:
            deadline = time.monotonic() + self._limits.head_seconds
            if tls:
                self._secure(tls, deadline)
            while self._answer_one(deadline):
                deadline = self._await_next()
        except OSError as error:
            _log.debug("a connection ended early: %s", error)
        finally:
            self._places.leave(self._place)

    def _secure(self, tls: ServerTls, deadline: float) -> None:
        plain = self._place.connection
        plain.settimeout(_left(deadline))
        secured = tls.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._places.replace(self._place, secured)
        secured.do_handshake()
        tls.check_client(secured)

    def _await_next(self) -> float:
        """Wait for the next request's first byte; return that request's deadline."""
        self._places.expect(self._place)
        if not self._received:
            self._receive(time.monotonic() + self._limits.idle_seconds)
        return time.monotonic() + self._limits.head_seconds

    def _answer_one(self, deadline: float) -> bool:
        """Answer one request; tell whether there may be another."""
        try:
            head = self._read_head(deadline)
        except BadRequestError as error:
            self._write(None, text_response(error.status, str(error)))
            self._linger()
            return False
        if head is None:
            return False
        self._place.hold()
        self._write(head, self._guarded_response(head))
        if not head.keep_alive:
            self._linger()
        return head.keep_alive

    def _read_head(self, deadline: float) -> RequestHead | None:
        """Return the next head, or ``None`` when the client has gone."""
        self._received = self._received.lstrip(b"\r\n")
        while not (end := END_OF_HEAD.search(self._received)):
            self._check_size(len(self._received))
            if not self._receive(deadline):
                return None
            self._received = self._received.lstrip(b"\r\n")
        self._check_size(end.start())
        raw, self._received = self._received[: end.start()], self._received[end.end() :]
        return parse_head(raw)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_head_bytes:
            limit = f"request head exceeds {self._limits.max_head_bytes} bytes"
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, limit)

    def _receive(self, deadline: float) -> int:
        self._place.connection.settimeout(_left(deadline))
        data = self._place.connection.recv(self._limits.max_head_bytes)
        self._received += data
        return len(data)

    def _guarded_response(self, head: RequestHead) -> Response:
        try:
            return self._respond(_request(head))
        except Exception:  # noqa: BLE001 - one bad answer must not end the endpoint
            _log.exception("answering %s failed", head.path)
            return text_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the exporter's log")

    def _write(self, head: RequestHead | None, response: Response) -> None:
        # Who sent nonsense gets an answer, but no claim to a place while others wait for one.
        self._places.expect(self._place, self._limits.write_grace_seconds if head else 0.0)
        deadline = time.monotonic() + self._limits.write_seconds
        self._send(render_head(response, keep_alive=bool(head and head.keep_alive)), deadline)
        if not (head and head.method == "HEAD"):
            self._send(response.body, deadline)

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._place.connection.settimeout(_left(deadline))
            rest = rest[self._place.connection.send(rest[:_CHUNK]) :]

    def _linger(self) -> None:
        """Read on for a moment: closing with unread bytes would make the kernel take the answer back."""
        socket.socket.shutdown(self._place.connection, socket.SHUT_WR)
        deadline, num_read = time.monotonic() + _LINGER_SECONDS, 0
        self._received = b""
        while num_read < _LINGER_BYTES and (size := self._receive(deadline)):
            self._received = b""
            num_read += size


def render_head(response: Response, *, keep_alive: bool) -> bytes:
    """Render the status line and headers of an answer."""
    headers = {
        "Server": "hisparse-exporter",
        "Date": formatdate(usegmt=True),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        **response.headers,
        **({} if keep_alive else {"Connection": "close"}),
    }
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _request(head: RequestHead) -> Request:
    get = head.headers.get
    return Request(
        head.method, head.path, get("accept", ""), get("accept-encoding", ""), get("authorization", ""),
        head.query,
    )  # fmt: skip


def _left(deadline: float) -> float:
    """Return the seconds until ``deadline``; never 0, which would mean no waiting at all to a socket."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the client took too long")
    return left
