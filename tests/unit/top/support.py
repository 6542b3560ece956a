"""Samples, readings and snapshots made by hand, for tests of what ``hisparse top`` makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric
from hisparse_metrics.top.board import Board
from hisparse_metrics.top.history import CurvePoint
from hisparse_metrics.top.reading import Engine, RankKey, RankSample, Reading
from hisparse_metrics.top.state import State
from hisparse_metrics.top.totals import total
from hisparse_metrics.top.view import RankView, Snapshot
from hisparse_metrics.top.vocabulary import Severity, Vocabulary

START = 1_795_000_000.0
KEY = RankKey("glm", "GLM-5", "0", "0", "0", "0")
VOCABULARY = Vocabulary(
    {"device": "#0000ff", "host": "#ff8800", "reserved": "#ff00ff", "spare": "#00ffff", "good": "#00aa00", "warning": "#ffff00",
     "critical": "#ff0000"},
    {"host-usage": ((-math.inf, Severity.FINE), (0.8, Severity.WARNING), (0.9, Severity.CRITICAL)),
     "hit-ratio": ((-math.inf, Severity.WARNING), (0.9, Severity.FINE))},
    stalled_seconds=60.0,
)  # fmt: skip
"""Levels of its own, so that a number copied into the program would show."""


def sample(
    values: Mapping[Metric, float] | None = None, *, key: RankKey = KEY, engine: Engine = Engine.HISPARSE, **more: object
) -> RankSample:  # fmt: skip
    """Return a living rank's sample."""
    given = {m.ENGINE_UP: 1.0, m.ENGINE_START_TIME_SECONDS: START} | dict(values or {})
    return RankSample(key, engine, {metric.name: value for metric, value in given.items()}, **more)  # type: ignore[arg-type]


def reading(second: float, *ranks: RankSample, note: str = "") -> Reading:
    """Return what was read so many seconds after the start."""
    return Reading(START + second, 1_000.0 + second, ranks, note)


def board() -> Board:
    return Board("here", 1.0, VOCABULARY)


def snapshot_of(taken: Board, second: float) -> Snapshot:
    return taken.snapshot(START + second, 1_000.0 + second)


def curve(seconds: int = 55) -> tuple[CurvePoint, ...]:
    """Return a past in which every curve has a shape of its own; one gap in the hit ratio."""
    return tuple(
        CurvePoint(
            1_000.0 + t,
            0.8,
            0.3 + 0.01 * t,
            None if 20 <= t < 30 else 0.85 + 0.1 * math.sin(t / 8),
            100.0 + 80.0 * math.sin(t / 5),
        )
        for t in range(seconds)
    )


BUSY = RankView(
    key=KEY, name="glm dp0", engine="hisparse", state=State.UP, about="GLM-5 · 0.1.0 · hierarchical · cuda · bfloat16",
    running=24, staging=1, waiting=3,
    device_tokens=131_072, device_capacity=163_840, device_usage=0.8, device_spare=32_768,
    host_tokens=1_720_320, host_capacity=2_097_152, host_usage=0.8203125, host_reserved=98_304, host_growth=0.0008,
    tokens_per_second=1_234.5, hit_ratio=0.873, lookups_per_second=1e6, host_to_device=1.2 * 2**30,
    device_to_host=20.5 * 2**20, step_p50=0.0182, step_p99=0.0431, retractions=2, retractions_per_second=0.0,
    mismatches=0, violations=0, since_step=0.02, uptime=7_260.0, curve=curve(),
)  # fmt: skip
DOWN = RankView(
    key=KEY._replace(dp_rank="1"), name="glm dp1", engine="hisparse", state=State.DOWN, about=BUSY.about,
    retractions=7, since_step=312.0,
)  # fmt: skip
STUCK = replace(
    BUSY, key=KEY._replace(dp_rank="2"), name="glm dp2", state=State.STALLED, host_usage=0.95, host_tokens=1_992_294,
    host_growth=None, since_step=75.0, tokens_per_second=0.0, hit_ratio=None, mismatches=1, curve=curve(30),
)  # fmt: skip
RATIOS_ONLY = RankView(
    key=RankKey("vllm", "deepseek-ai/DeepSeek-V3.2", "0"), name="vllm", engine="vllm", state=State.UP,
    about="deepseek-ai/DeepSeek-V3.2 · vllm", running=8, waiting=0, host_usage=0.41, hit_ratio=0.97,
    lookups_per_second=5e5, host_to_device=3.1 * 2**20, tokens_per_second=312.0,
)  # fmt: skip


def snapshot(*ranks: RankView, **more: object) -> Snapshot:
    """Return these ranks as a frame gets them."""
    given = Snapshot("http://gpu-7:9477/metrics", START, 1.0, ranks, total(ranks), read_ago=0.1)
    return replace(given, **more)  # type: ignore[arg-type]


MANY = snapshot(
    *(
        replace(BUSY, key=KEY._replace(dp_rank=str(i)), name=f"glm dp{i}", host_usage=i / 40)
        for i in range(40)
    )
)
