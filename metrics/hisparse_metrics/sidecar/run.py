"""The sidecar as a process: the pump in the main thread, the exporter in its own, until a signal or the end of input."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.state import StateError, StateFile
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.config import SidecarConfig, SidecarError
from hisparse_metrics.sidecar.drain import DrainedPipe
from hisparse_metrics.sidecar.pump import Pump
from hisparse_metrics.sidecar.sources import file_patterns, make_sources
from hisparse_metrics.web.arenas import use_one_arena
from hisparse_metrics.web.options import WebOptions
from hisparse_metrics.web.served import Served

POLL_SECONDS = 0.25
DRAIN_SECONDS = 5.0


class Stop:
    """What a signal asks for: the first to end, the second to end at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.hurried = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        (self.hurried if self.asked.is_set() else self.asked).set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM meanwhile."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_sidecar(
    config: SidecarConfig, web: WebOptions, announce: Callable[[str], None], *, tee: bool
) -> None:
    """Follow, parse and serve until SIGINT, SIGTERM or, when standard input is all there is, a while after its end.

    Raises :class:`SidecarError` or ``ExporterError`` for what a person can mend. For the main thread of a process.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    use_one_arena()
    follower = open_follower(config, tee=tee)
    collector = make_collector(config)
    pump = Pump(follower, collector, patterns=file_patterns(config), stale_after=config.stale_after)
    stop = Stop()
    served = Served(collector, _about(config), lambda: _facts(collector), lambda: pump.turns > 0)
    try:
        with stop.on_signals(), Exporter(served, web=web) as exporter:
            announce(f"serving {exporter.metrics_url} from {served.about}")
            _pump_until(stop, pump, _only_pipe(config, follower), config.stale_after)
            _drain(stop, pump, follower)
            pump.finish()
    finally:
        follower.close()


def make_collector(config: SidecarConfig, clock: Callable[[], float] = time.time) -> SidecarCollector:
    """Return the collector over the logs, and over the stats folder where one is configured."""
    pages = PageCollector(PageFolder(config.stats_dir)) if config.stats_dir else None
    return SidecarCollector(config.labels, config.stale_after, pages=pages, clock=clock)


def open_follower(config: SidecarConfig, *, tee: bool) -> Follower:
    """Open the sources, and continue where the state file says; nobody else may use it meanwhile."""
    state_file = StateFile(config.state_file) if config.state_file else None
    try:
        if state_file:
            state_file.lock()
        return Follower(make_sources(config, tee=tee), state_file)
    except StateError as error:
        raise SidecarError(str(error)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SidecarError(
            f"state file {config.state_file}: no usable positions ({error}); move it away to start without it"
        ) from error


def _pump_until(stop: Stop, pump: Pump, pipe: DrainedPipe | None, grace: float) -> None:
    """Turn until asked to stop, or until ``grace`` after the end of the only source."""
    deadline = None
    while not stop.asked.is_set() and (deadline is None or time.monotonic() < deadline):
        if not pump.turn():
            stop.asked.wait(POLL_SECONDS)
        if pipe is not None and pipe.ended and deadline is None:
            deadline = time.monotonic() + grace


def _drain(stop: Stop, pump: Pump, follower: Follower) -> None:
    """Let the engine before our pipe write its last words: leaving now would break its output."""
    deadline = time.monotonic() + DRAIN_SECONDS
    pipes = [source for source in follower.sources if isinstance(source, DrainedPipe)]
    while time.monotonic() < deadline and not all(pipe.ended for pipe in pipes):
        pump.turn()
        if stop.hurried.wait(POLL_SECONDS / 5):
            return


def _only_pipe(config: SidecarConfig, follower: Follower) -> DrainedPipe | None:
    """Return standard input when nothing else is followed or served."""
    [*sources] = follower.sources
    only = sources[0] if len(sources) == 1 and not config.stats_dir else None
    return only if isinstance(only, DrainedPipe) else None


def _about(config: SidecarConfig) -> str:
    sources = config.sources
    units = [f"the journal of {unit}" for unit in sources.journald_unit]
    pages = [f"the stats pages in {config.stats_dir}"] if config.stats_dir else []
    return ", ".join([*file_patterns(config), *units, *(["standard input"] if sources.stdin else []), *pages])


def _facts(collector: SidecarCollector) -> dict[str, object]:
    snapshot = collector.snapshot
    newest = max((log.liveness.last_sample or 0.0 for log in snapshot.logs), default=0.0)
    return {
        "logs": len(snapshot.logs),
        "sources_up": sum(source.up for source in snapshot.sources),
        "sources": len(snapshot.sources),
        "last_sample_age_seconds": round(time.time() - newest, 3) if newest else None,
    }
