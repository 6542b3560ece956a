"""The HTTP endpoint: one object that an engine embeds, and one call that the command line waits in."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.http_server import SiteServer
from hisparse_metrics.http_site import Site
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.errors import ExporterError
from hisparse_metrics.web.listen import open_listener, parse_listen, systemd_listeners, url_of
from hisparse_metrics.web.options import DEFAULT_HOST, DEFAULT_PORT, WebOptions
from hisparse_metrics.web.policy import PolicyFile
from hisparse_metrics.web.served import Served, served_pages

__all__ = ["Exporter", "ExporterError", "parse_listen", "serve", "serve_pages"]

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = logging.getLogger(__name__)


class Exporter:
    """Serves metrics, ``/healthz`` and the live page from background threads, between :meth:`start` and :meth:`close`.

    ``web`` has everything there is to say; ``host`` and ``port`` are enough for one address in the clear.
    Port 0 takes any free port; :attr:`url` tells which.
    """

    def __init__(
        self, source: PageCollector | Served, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT,
        *, web: WebOptions | None = None,
    ) -> None:  # fmt: skip
        served = source if isinstance(source, Served) else served_pages(source)
        self._web = web or WebOptions(listen=((host, port),))
        self._served = served
        self._server: SiteServer | None = None
        self._sampler: Sampler | None = None
        self.urls: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The first port that is listened on, or that was asked for while not started."""
        return int(self.url.rpartition(":")[2]) if self._server else self._web.listen[0][1]

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the endpoint; the first address where there are several."""
        return self.urls[0]

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the metrics."""
        return self.url + self._web.telemetry_path

    def start(self) -> Self:
        """Listen and serve; :class:`ExporterError` when an address or the web config cannot be used."""
        policy = PolicyFile(self._web.config_file)
        site = Site(_with_policy_facts(self._served, policy), self._web.telemetry_path)
        with ExitStack() as undo:
            listeners = self._listen(undo)
            tls = policy.current().tls is not None
            self.urls = tuple(url_of(listener, host, tls=tls) for listener, host in listeners)
            self._server = SiteServer(
                [listener for listener, _ in listeners], site.respond, policy, self._web.limits
            )
            undo.pop_all()
        self._sampler = site.sampler
        self._sampler.start()
        self._server.start()
        return self

    def close(self) -> None:
        """Stop listening. Requests being answered end with their threads. Safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if self._sampler is not None:
            self._sampler.close()

    def _listen(self, undo: ExitStack) -> list[tuple[socket.socket, str | None]]:
        """Return each socket with the host that was asked for; nobody asked for one of systemd's."""
        if self._web.systemd_socket:
            return [(undo.enter_context(listener), None) for listener in systemd_listeners()]
        return [(undo.enter_context(open_listener(host, port)), host) for host, port in self._web.listen]


def serve(source: PageCollector | Served, web: WebOptions, announce: Callable[[str], None]) -> None:
    """Serve ``source`` until SIGINT or SIGTERM; ``announce`` gets a line for the user for each address.

    Raises :class:`ExporterError` when an address or the web config is no good. For the main thread of a process.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    served = source if isinstance(source, Served) else served_pages(source)
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        with Exporter(served, web=web) as exporter:
            for url in exporter.urls:
                announce(f"serving {url}{web.telemetry_path} from {served.about}; live page: {url}/")
            signal.sigwait(_STOP_SIGNALS)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def serve_pages(
    stats_dir: Path, web: WebOptions, retention_seconds: float, announce: Callable[[str], None]
) -> None:
    """Serve the pages in ``stats_dir`` as :func:`serve` does.

    Raises :class:`ExporterError` also when the folder is no good.
    """
    _check_readable(stats_dir)
    serve(PageCollector(PageFolder(stats_dir, retention_seconds=retention_seconds)), web, announce)


def _with_policy_facts(served: Served, policy: PolicyFile) -> Served:
    """Let ``/healthz`` tell whether the web config that is in force is the one in the file."""
    if policy.path is None:
        return served
    return replace(served, facts=lambda: {**served.facts(), "web_config_current": policy.is_current})


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
