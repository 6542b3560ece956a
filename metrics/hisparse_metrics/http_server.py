"""A small HTTP server around a :class:`~hisparse_metrics.http_site.Site`: threads, limits, deadlines.

The standard library's server, with what it lacks: a bound on concurrent requests, a deadline for a whole request
(a client that sends one byte at a time cannot keep a thread), and no name lookup when it binds.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hisparse_metrics.http_site import Request, Response, Site

_log = logging.getLogger(__name__)
_MAX_REQUESTS = 32
_REQUEST_SECONDS = 10.0
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class SiteServer(ThreadingHTTPServer):
    """Serves ``site`` on one address; at most ``max_requests`` at once, the others get 503."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, site: Site, *, max_requests: int = _MAX_REQUESTS,
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:  # fmt: skip
        """Bind and listen; raises :class:`OSError` when the address cannot be had."""
        self.site = site
        self._free = threading.BoundedSemaphore(max_requests)
        self._request_seconds = request_seconds
        self._deadlines: dict[socket.socket, float] = {}
        self._deadlines_lock = threading.Lock()
        self.address_family, address = _resolve(host, port)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the lookup of the host's full name that the standard library does, and may hang on."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to a thread, or refuse it when all are taken."""
        if not self._free.acquire(blocking=False):
            return self._refuse(request)
        with self._deadlines_lock:
            self._deadlines[request] = time.monotonic() + self._request_seconds
        return super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one request in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def shutdown_request(self, request: Any) -> None:
        """Forget the deadline before the socket is closed, so that no later socket inherits it."""
        with self._deadlines_lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off requests that are past their deadline; called between accepts and at least twice a second."""
        now = time.monotonic()
        with self._deadlines_lock:
            for request, deadline in self._deadlines.items():
                if now > deadline:
                    _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log instead of printing: a client that went away is no news, anything else is a defect."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        _log.log(level, "request from %s failed", client_address, exc_info=True)

    def _refuse(self, request: socket.socket) -> None:
        try:
            request.settimeout(0)
            request.send(_BUSY)
        except OSError:
            _log.debug("could not tell a client that the exporter is busy")
        self.shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    server_version = "hisparse-exporter"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def answer(self) -> None:
        """Answer the request that was just read."""
        response = self._respond()
        self.send_response(response.status)
        sizes = {"Content-Type": response.content_type, "Content-Length": str(len(response.body))}
        for name, value in (sizes | response.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Keep requests out of the log unless somebody debugs."""
        _log.debug("%s " + format, self.address_string(), *args)

    def _respond(self) -> Response:
        accept, encoding = (self.headers.get(name, "") for name in ("Accept", "Accept-Encoding"))
        request = Request(self.command, self.path.partition("?")[0], " ".join(accept.split()), encoding)
        try:
            return self.server.site.respond(request)
        except Exception:  # noqa: BLE001 - one bad answer must not end the endpoint
            _log.exception("answering %s failed", request.path)
            return Response(
                HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"internal error; see the exporter's log\n"
            )


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        _log.debug("a slow client was gone already")
