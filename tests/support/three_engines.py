"""One Prometheus with data of all three engines at once: our engine's pages, SGLang's log by the sidecar, and vLLM.

Everything is real but the engines: the exporter over pages that a fake engine writes, the sidecar's process over a log that
grows, and vLLM's expositions in each revision, from files that say that they are written after the published names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.stats import EngineIdentity
from tests.support import exposition, fake_engine, growing_log
from tests.support.prometheus import PrometheusServer, Sample
from tests.unit.sidecar.process import Sidecar

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
VLLM = {revision: ROOT / f"tests/data/vllm_hisparse_{revision}.prom" for revision in "abc"}
RANKS = [EngineIdentity(model_name="tiny", dp_rank=rank, mode="hierarchical") for rank in (0, 1)]
SCRAPE_INTERVAL = "500ms"
RATE_INTERVAL = "4s"
FIRST_STEP = 800
"""Of the fake engine: its host pool is then more than half full, as full as must be for a prediction."""
JOBS = {"hisparse": "hisparse", "sglang": "hisparse-sidecar", "vllm": "vllm"}
"""Kind of engine → the job that scrapes it."""


EVERYTHING = " and on () ".join(f"({condition})" for condition in (
    "count(count by (engine, instance) (hisparse:generation:tokens_per_second > 0)) == 5",
    "count(hisparse:host_time_to_full:seconds) == 5",
    'count(ALERTS{alertname="HiSparseHostPoolFull", alertstate="firing"}) >= 2',
    "min(min_over_time(up[4s])) == 1",
    f"min(count_over_time(up[{RATE_INTERVAL}])) >= 4",
))  # fmt: skip
"""Every engine is recorded and predicted, the log's alert fires, and no scrape was missed lately."""


@dataclass(frozen=True)
class Moment:
    """A Prometheus as it was at one moment: however slow the machine, every query is about the same figures."""

    prometheus: PrometheusServer
    time: float

    @classmethod
    def of(cls, prometheus: PrometheusServer, condition: str) -> Self:
        """Wait for the moment at which ``condition`` has an answer."""
        return cls(prometheus, prometheus.wait_for(condition, timeout=120)[0].timestamp)

    def query(self, expr: str) -> list[Sample]:
        return self.prometheus.query(expr, self.time)


@contextmanager
def running(folder: Path) -> Iterator[Moment]:
    """Run everything, and yield a moment at which every engine is in full swing."""
    pages, log = folder / "pages", folder / "sglang.log"
    pages.mkdir()
    with ExitStack() as stack:
        for rank in RANKS:
            stack.enter_context(fake_engine.stepping(pages, rank, interval=0.1, first=FIRST_STEP))
        exporter = stack.enter_context(Exporter(PageCollector(PageFolder(pages)), port=0))
        stack.enter_context(growing_log.growing(log))
        sidecar = stack.enter_context(Sidecar("--sglang-log", log, "--model", "glm-5", "--from-start"))
        vllm = [stack.enter_context(exposition.served(path)) for path in VLLM.values()]
        targets = {
            "hisparse": [f"127.0.0.1:{exporter.port}"],
            "hisparse-sidecar": [sidecar.address],
            "vllm": vllm,
        }
        config = {"scrape_configs": [_job(job, addresses) for job, addresses in targets.items()]}
        prometheus = stack.enter_context(
            PrometheusServer(rule_files=RULES, scrape_interval=SCRAPE_INTERVAL, config=config)
        )
        yield Moment.of(prometheus, EVERYTHING)


def _job(name: str, addresses: Sequence[str]) -> dict[str, object]:
    return {"job_name": name, "static_configs": [{"targets": list(addresses)}]}
