"""One Prometheus with data of all three engines at once: our engine's pages, SGLang's log by the sidecar, and vLLM.

Everything is real but the engines: the exporter over pages that a fake engine writes, the sidecar's process over a log that
grows, and vLLM's expositions in each revision, from files that say that they are written after the published names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.stats import EngineIdentity
from tests.support import exposition, fake_engine, growing_log
from tests.support.prometheus import PrometheusServer
from tests.unit.sidecar.process import Sidecar

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
VLLM = {revision: ROOT / f"tests/data/vllm_hisparse_{revision}.prom" for revision in "abc"}
RANKS = [EngineIdentity(model_name="tiny", dp_rank=rank, mode="hierarchical") for rank in (0, 1)]
SCRAPE_INTERVAL = "250ms"
RATE_INTERVAL = "2s"
FIRST_STEP = 800
"""Of the fake engine: its host pool is then more than half full, as full as must be for a prediction."""
JOBS = {"hisparse": "hisparse", "sglang": "hisparse-sidecar", "vllm": "vllm"}
"""Kind of engine → the job that scrapes it."""


@contextmanager
def running(folder: Path) -> Iterator[PrometheusServer]:
    """Run everything until each engine has recorded series; the fake engine steps ten times a second."""
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
        prometheus.wait_for(
            "count(count by (engine, instance) (hisparse:generation:tokens_per_second > 0)) == 5"
        )
        prometheus.wait_for("count(hisparse:host_time_to_full:seconds) >= 7")
        prometheus.wait_for("count_over_time(hisparse_decode_steps_total[10s]) > 16")
        yield prometheus


def _job(name: str, addresses: Sequence[str]) -> dict[str, object]:
    return {"job_name": name, "static_configs": [{"targets": list(addresses)}]}
