"""A replay as a process: the log in the main thread, the exporter in its own, until the end or a signal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hisparse_metrics.exporter import Exporter
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.replay import Replay
from hisparse_metrics.sidecar.run import Stop
from hisparse_metrics.web.options import WebOptions
from hisparse_metrics.web.served import Served


def run_replay(
    log: Path,
    speed: float,
    labels: EngineLabels,
    stale_after: float,
    web: WebOptions,
    announce: Callable[[str], None],
    *,
    once: bool,
) -> None:
    """Replay ``log`` and serve it; return at its end if ``once``, else on SIGINT or SIGTERM."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    collector = SidecarCollector(labels, stale_after / speed)
    stop = Stop()
    replay = Replay(str(log), collector, speed, stop.asked.wait)
    served = Served(collector, f"a replay of {log}", lambda: {"records": replay.num_records})
    with stop.on_signals(), Exporter(served, web=web) as exporter, log.open("rb") as lines:
        announce(f"serving {exporter.metrics_url} from {served.about} at {speed:g} times its speed")
        if replay.run(lines) and not once:
            announce(f"the log has ended after {replay.num_records} records; serving until Ctrl-C")
            stop.asked.wait()
