"""Values and helpers shared by the metrics tests: steps in which every number is different."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.metric import Kind
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, EngineIdentity, Levels, StepStats, Totals

IDENTITY = EngineIdentity(
    engine_name="test", model_name="tiny", version="1.2.3", mode="hierarchical", device="cpu", dtype="float32"
)
LABELS = {
    "engine_name": "test", "model_name": "tiny", "dp_rank": "0", "pp_rank": "0", "tp_rank": "0", "ep_rank": "0",
}  # fmt: skip
HISTOGRAM_FIELDS = [metric.field for metric in catalogue.ALL if metric.kind is Kind.HISTOGRAM]


def make_step(timestamp: float = 1_795_000_000.0, *, scale: int = 1) -> StepStats:
    """Return a step in which no two numbers are equal, and every histogram has an observation."""
    levels = Levels(*(scale * (100 + i) for i in range(len(Levels._fields))))
    totals = Totals(*(scale * (1000 + i) for i in range(len(Totals._fields))))
    durations = tuple(Duration(field, 0.01 * (i + 1)) for i, field in enumerate(HISTOGRAM_FIELDS))
    return StepStats(timestamp, True, levels, totals, durations)


def registry_of(folder: Path, **options: float) -> CollectorRegistry:
    """Return a fresh registry over the pages in ``folder``."""
    registry = CollectorRegistry()
    registry.register(PageCollector(PageFolder(folder, **options)))
    return registry


def published(folder: Path, identity: EngineIdentity = IDENTITY) -> Recorder:
    """Return a living recorder that has published one step."""
    recorder = Recorder(folder, identity)
    recorder.publish(make_step())
    return recorder
