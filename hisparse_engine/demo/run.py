"""The demo: a small model on the CPU, clients with long prompts, metrics on a port, decode lines on the terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from hisparse_engine import __version__
from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo import recipe
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.demo.load import Clients, Load
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.hf_config import parse_config, read_config
from hisparse_engine.plan.at_start import plan_at_start, print_at_start
from hisparse_engine.progress import progress_bar
from hisparse_engine.request import Status
from hisparse_engine.tokenizer import Tokenizer
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.decode_log import LogFormat
from hisparse_metrics.decode_logger import DecodeLogger
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity
from hisparse_metrics.stats_dir import default_stats_dir
from hisparse_metrics.web.options import WebOptions

HOST_SHARE = 0.6
"""The demo's host pool as a share of what all clients could ask for at once, so that it fills and some must wait."""


@dataclass(frozen=True)
class DemoOptions:
    """What ``hisparse demo`` was asked for, besides the engine's settings."""

    model: Path | None
    duration: float | None
    web: WebOptions
    stats_dir: Path | None
    engine_name: str
    load: Load


class _InterruptedError(Exception):
    """SIGINT or SIGTERM before there was an engine to stop."""


class Stop:
    """Set by SIGINT or SIGTERM, or when the time is up; asked between two steps, so that no step is cut short."""

    def __init__(self) -> None:
        self._deadline = float("inf")
        self._asked = False
        self._starting = True

    def run_for(self, seconds: float | None) -> None:
        """Start the clock; from now on signals wait for the end of a step."""
        self._starting = False
        if seconds is not None:
            self._deadline = time.monotonic() + seconds

    def __bool__(self) -> bool:
        return self._asked or time.monotonic() >= self._deadline

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self._asked = True
        if self._starting:
            raise _InterruptedError


def run_demo(options: DemoOptions, engine_fields: dict[str, Any], tier_fields: dict[str, Any]) -> None:
    """Run until Ctrl-C, SIGTERM or the end of ``options.duration``; then free everything and return."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with _signals() as stop, ExitStack() as resources:
        try:
            engine, clients = _start(options, engine_fields, tier_fields, console, resources)
        except _InterruptedError:
            console.print("Stopped before the engine was up.")
            return
        stop.run_for(options.duration)
        _serve(engine, clients, stop, console)
        _farewell(engine, console)


def _start(
    options: DemoOptions,
    engine_fields: dict[str, Any],
    tier_fields: dict[str, Any],
    console: Console,
    resources: ExitStack,
) -> tuple[Engine, Clients]:
    """Claim the stats page and the port first: a mistake there should not cost a model load."""
    config = _config(options.load, engine_fields, tier_fields)
    stats_dir = options.stats_dir or default_stats_dir()
    shapes = read_config(options.model) if options.model else demo_shapes()
    exporter = resources.enter_context(Exporter(PageCollector(PageFolder(stats_dir)), web=options.web))
    identity = EngineIdentity(
        engine_name=options.engine_name,
        model_name=options.model.name if options.model else "demo-glm-dsa",
        version=__version__,
        mode=config.mode,
        device=config.device,
        dtype=config.row_dtype_for(shapes.dtype),
    )
    recorder = resources.enter_context(Recorder(stats_dir, identity))
    folder = options.model or _demo_checkpoint()
    tokenizer = Tokenizer.open(folder)
    with Checkpoint.open(folder) as checkpoint:
        plan = plan_at_start(config, checkpoint.config)
        model = load(checkpoint, config)
    logger = DecodeLogger(
        lambda line: console.print(line, markup=False),
        interval=config.decode_log_interval,
        log_format=LogFormat(config.log_format),
    )
    engine = Engine(model, config, observers=[recorder.publish, logger.maybe_log])
    engine.publish()
    _welcome(console, exporter, stats_dir, engine)
    print_at_start(plan, console)
    return engine, Clients(engine, tokenizer, options.load)


def _config(demand: Load, engine_fields: dict[str, Any], tier_fields: dict[str, Any]) -> EngineConfig:
    """Fill in a host pool that the clients' demand exceeds, unless one was given."""
    tiers = HiSparseConfig.parse(**tier_fields)
    if tiers.host_tokens is None:
        most = demand.concurrency * (demand.prompt_tokens + demand.max_new_tokens)
        tiers = HiSparseConfig.parse(**{**tier_fields, "host_tokens": max(int(HOST_SHARE * most), 1)})
    fields = {"max_running_requests": demand.concurrency, **engine_fields}
    return EngineConfig.parse(**fields, hisparse=tiers)


def demo_shapes() -> ModelConfig:
    """Return the shapes of the demo's own model, which need not be made for that."""
    return parse_config(recipe.CONFIG, Path("config.json"))


def _demo_checkpoint() -> Path:
    with progress_bar("Making the demo's checkpoint", unit="%") as report:
        return ensure_demo_checkpoint(progress=lambda _what, fraction: report(round(100 * fraction), 100))


def _serve(engine: Engine, clients: Clients, stop: Stop, console: Console) -> None:
    while not stop:
        clients.send()
        if not engine.scheduler.with_status(Status.RUNNING):
            _prefill_with_progress(engine, stop, console)
        else:
            engine.step()
    clients.leave()
    engine.step()  # publishes the empty pools


def _prefill_with_progress(engine: Engine, stop: Stop, console: Console) -> None:
    """Step while nothing decodes yet, showing how far the prompts are."""
    with progress_bar("Prefill", unit="tokens", console=console) as report:
        while not stop and not engine.scheduler.with_status(Status.RUNNING) and engine.has_work:
            engine.step()
            admitted = engine.scheduler.admitted
            report(sum(r.num_computed for r in admitted), sum(len(r.prompt) for r in admitted))


def _welcome(console: Console, exporter: Exporter, stats_dir: Path, engine: Engine) -> None:
    sizes = engine.sizes
    console.print(f"HiSparse {__version__} · {engine.config.mode} · {engine.config.device}", style="bold")
    console.print(
        f"  device pool {sizes.device_tokens} tokens · host pool {sizes.host_tokens} tokens", end=""
    )
    console.print(f" · hot buffer {sizes.device_buffer_size} · top-k {engine.model.config.index_topk}")
    for url in exporter.urls:
        console.print(f"  live page [bold]{url}/[/bold]")
    console.print(f"  metrics   {exporter.metrics_url}")
    console.print(f"  liveness  {exporter.url}/healthz")
    console.print(f"  stats     {stats_dir}")
    console.print(
        "  dashboard import dashboards/generated/hisparse-overview.json into Grafana; Ctrl-C ends the demo"
    )


def _farewell(engine: Engine, console: Console) -> None:
    tokens, totals = engine.coordinator.get_token_stats(), engine.totals
    empty = "pools empty" if tokens.device_tokens == tokens.host_tokens == 0 else f"pools NOT empty: {tokens}"
    console.print(
        f"Done: {totals.generation_tokens} tokens in {totals.decode_steps} decode steps, "
        f"{sum(totals.outcomes.values())} requests; {empty}."
    )


@contextmanager
def _signals() -> Iterator[Stop]:
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
