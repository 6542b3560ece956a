"""Lines, states and scrapes for the sidecar's tests."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.state import SidecarState
from hisparse_metrics.sidecar.views import Snapshot, SourceView

LOG = "/var/log/sglang/a.log"
READY = "[2026-04-08 14:00:00] The server is fired up and ready to roll!"
CRASH = "[2026-04-08 14:20:00] Received sigquit from a child process. It usually means the child failed."
RETRACT = (
    "[2026-04-08 14:10:00 TP0] KV cache pool is full. Retract requests. #retracted_reqs: 3, #new_tokens: 1"
)
NO_HOST = "[2026-04-08 14:10:01 TP0] HiSparse: host mem pool alloc failed for 12 host pages"
NO_DEVICE = "[2026-04-08 14:10:02 TP0] HiSparse: alloc_device_buffer failed for req 7"
SYNC = "[2026-04-08 14:10:03 TP0] HiSparse: falling back to synchronous swap-in."
ACCESS = '[2026-04-08 14:10:04] INFO:     127.0.0.1:5 - "GET /health HTTP/1.1" 200 OK'


def decode(
    host: int = 41422, host_usage: str = "0.29", device: int = 20800, ranks: str = " TP0", clock: str = "14:09:56",
    running: int = 5, waiting: int = 0,
) -> str:  # fmt: skip
    """Return a decode line with the split."""
    return (
        f"[2026-04-08 {clock}{ranks}] Decode batch, #running-req: {running}, #gpu token: {device}, "
        f"gpu token usage: 0.29, #cpu token: {host}, cpu token usage: {host_usage}, cuda graph: True, "
        f"gen throughput (token/s): 153.75, #queue-req: {waiting}"
    )


def prefill(new: int = 100, cached: int = 7, ranks: str = " TP0", waiting: int = 0) -> str:
    """Return a prefill line."""
    return (
        f"[2026-04-08 14:09:57{ranks}] Prefill batch, #new-seq: 1, #new-token: {new}, #cached-token: {cached}, "
        f"token usage: 0.29, #running-req: 4, #queue-req: {waiting}, cuda graph: False, "
        f"input throughput (token/s): 10.00"
    )


def batch(*lines: str, source: str = LOG, stream: str = "1") -> LineBatch:
    """Return lines as a source hands them out."""
    return LineBatch(source, stream, [line.encode() for line in lines])


def fed(*lines: str, time: float = 1000.0) -> SidecarState:
    """Return a state that has taken in some lines of one log at ``time``."""
    state = SidecarState()
    state.take(batch(*lines), time)
    return state


class FakeClock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Scraped:
    """One exposition's samples by name and labels."""

    def __init__(self, collector: SidecarCollector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self.families = list(registry.collect())
        self.samples = [sample for family in self.families for sample in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        """Return the values of the series with these labels."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {sample.name for sample in self.samples}


def scrape(
    state: SidecarState, now: float = 1000.0, stale_after: float = 60.0, sources: Iterable[SourceView] = ()
) -> Scraped:
    """Return what a scrape at ``now`` sees."""
    collector = SidecarCollector(EngineLabels("glm"), stale_after, clock=FakeClock(now))
    collector.publish(Snapshot(state.views(), tuple(sources)))
    return Scraped(collector)
