"""The HTTP endpoint: one object that an engine embeds, and one call that the command line waits in."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.http_server import SiteServer
from hisparse_metrics.http_site import Site
from hisparse_metrics.page_folder import PageFolder

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9477
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MAX_PORT = 65535
_LISTEN = re.compile(r"(\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_POLL_SECONDS = 0.25
_log = logging.getLogger(__name__)


class ExporterError(Exception):
    """The endpoint cannot be served; the message names the address, the reason and the remedy."""


class Exporter:
    """Serves ``/metrics``, ``/healthz`` and ``/`` from a background thread, between :meth:`start` and :meth:`close`.

    Port 0 takes any free port; :attr:`url` tells which.
    """

    def __init__(self, collector: PageCollector, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> None:
        self._site = Site(collector)
        self._host = host
        self._port = port
        self._server: SiteServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that is listened on, or that was asked for while not started."""
        return self._server.server_port if self._server else self._port

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the endpoint."""
        host = {"": "localhost", "0.0.0.0": "localhost", "::": "localhost"}.get(self._host, self._host)  # noqa: S104 - a name for it, no bind
        return f"http://{_address(host, self.port)}"

    def start(self) -> Self:
        """Listen and serve; :class:`ExporterError` when the address cannot be had."""
        try:
            self._server = SiteServer(self._host, self._port, self._site)
        except (OSError, UnicodeError) as error:
            raise ExporterError(_explain(self._host, self._port, error)) from error
        serve = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="hisparse-exporter", daemon=True
        )
        serve.start()
        return self

    def close(self) -> None:
        """Stop listening. Requests being answered end with their threads. Safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()


def parse_listen(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (every interface).

    Raises :class:`ExporterError` when it is none of them.
    """
    found = _LISTEN.fullmatch(text)
    if found is None or int(found["port"]) > _MAX_PORT:
        raise ExporterError(f"cannot listen on {text!r}: expected HOST:PORT with a port of 0 to {_MAX_PORT}")
    return found["ipv6"] or found["host"] or "", int(found["port"])


def serve_pages(
    stats_dir: Path, listen: str, retention_seconds: float, announce: Callable[[str], None]
) -> None:
    """Serve the pages in ``stats_dir`` until SIGINT or SIGTERM; ``announce`` gets the line for the user.

    Raises :class:`ExporterError` when the address or the folder is no good. For the main thread of a process.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    host, port = parse_listen(listen)
    _check_readable(stats_dir)
    collector = PageCollector(PageFolder(stats_dir, retention_seconds=retention_seconds))
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        with Exporter(collector, host, port) as exporter:
            announce(f"serving {exporter.url}/metrics from the stats pages in {stats_dir}")
            signal.sigwait(_STOP_SIGNALS)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _check_readable(stats_dir: Path) -> None:
    """Refuse what will never hold pages; a folder that is not there yet may still come."""
    if not stats_dir.exists():
        return _log.warning(
            "stats folder %s does not exist yet; waiting for an engine to create it", stats_dir
        )
    if not stats_dir.is_dir() or not os.access(stats_dir, os.R_OK | os.X_OK):
        raise ExporterError(
            f"cannot read stats folder {stats_dir}: not a readable folder; choose another with --stats-dir"
        )
    return None


def _explain(host: str, port: int, error: Exception) -> str:
    reason = "the port is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
    remedy = "stop the program that has it, or choose another address with --listen HOST:PORT"
    return f"cannot listen on {_address(host or '*', port)}: {reason}; {remedy} (port 0 takes any free one)"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
