"""One measurement from beginning to end: calibrate, warm up, run the load with the sampler beside it, sum up."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.load_generator.client import Client
from benchmarks.load_generator.lengths import Conversation
from benchmarks.load_generator.records import Run
from benchmarks.load_generator.runner import Runner, warm_up
from benchmarks.load_generator.sampler import Sampler
from benchmarks.load_generator.settings import Asking, Load, Objective
from benchmarks.load_generator.summary import summarise
from benchmarks.load_generator.texts import CharacterWriter, TokenWriter

IDLE_SECONDS = 15.0
"""How long a server may take to become idle after the last answer, before its last sample is taken."""
Show = Callable[[Runner, Sampler], None]


@dataclass(frozen=True)
class Target:
    """The server that is asked. ``url`` ends in /v1; ``tokenizer`` is a folder with its tokenizer.json."""

    url: str
    model: str = ""
    api_key: str | None = None
    metrics: tuple[str, ...] = ()
    tokenizer: Path | None = None
    flags: tuple[str, ...] = ()
    """Of a server that was started for this run."""


@dataclass(frozen=True)
class Experiment:
    """Everything that is asked, and by what it is judged."""

    load: Load
    asking: Asking = field(default_factory=Asking)
    objective: Objective = field(default_factory=Objective)
    warm_up: int = 2


async def measure(
    target: Target, experiment: Experiment, conversations: Sequence[Conversation], show: Show | None = None
) -> Run:
    """Return what was measured; after Ctrl-C, what was measured so far."""
    writer = TokenWriter(target.tokenizer) if target.tokenizer is not None else CharacterWriter()
    client = Client(target.url, target.model, experiment.asking, writer, target.api_key)
    sampler = Sampler(target.metrics, client.clock)
    runner = Runner(client, experiment.load, conversations)
    try:
        await client.find_model()
        await client.calibrate()
        await warm_up(client, experiment.load, experiment.warm_up)
        about = _about(target, experiment, client)
        cost = await _run(client, runner, sampler, show)
    finally:
        await client.close()
        await sampler.close()
    run = Run(
        {**about, "generator": {**cost, "failed_scrapes": sampler.failures}}, runner.records, sampler.samples
    )
    run.about["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    run.summary = summarise(run.records, run.samples, experiment.objective)
    return run


async def _run(client: Client, runner: Runner, sampler: Sampler, show: Show | None) -> dict[str, Any]:
    """Run the load; return what generating it cost."""
    client.start_clock()
    sampling = asyncio.create_task(sampler.run())
    showing = asyncio.create_task(_keep_showing(runner, sampler, show)) if show is not None else None
    began = time.process_time()
    interrupted = await _until_interrupted(runner)
    cpu, wall = time.process_time() - began, client.clock()
    for task in filter(None, (sampling, showing)):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await _settle(sampler)
    return {"cpu_s": round(cpu, 2), "cpu_share": round(cpu / wall, 4), "interrupted": interrupted}


async def _until_interrupted(runner: Runner) -> bool:
    try:
        await runner.run()
    except asyncio.CancelledError:  # Ctrl-C, which asyncio turns into this
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        for record in runner.records:
            record.message = record.message or ("" if record.outcome == "ok" else "interrupted")
        return True
    return False


async def _keep_showing(runner: Runner, sampler: Sampler, show: Show) -> None:
    while True:
        show(runner, sampler)
        await asyncio.sleep(0.25)


async def _settle(sampler: Sampler) -> None:
    """Take the last sample when the server has nothing to do any more, or has had time enough."""
    deadline = time.monotonic() + IDLE_SECONDS
    while (sample := await sampler.scrape()) is not None:
        if not any((sample.running, sample.staging, sample.waiting)) or time.monotonic() > deadline:
            sampler.samples.append(sample)
            return
        await asyncio.sleep(0.1)


def _about(target: Target, experiment: Experiment, client: Client) -> dict[str, Any]:
    return {
        "tool": {
            "hisparse": version("hisparse"), "httpx2": version("httpx2"), "python": platform.python_version(),
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "load_average_before": round(os.getloadavg()[0], 2),
        },
        "server": {"model": client.model, "flags": " ".join(target.flags)} | ({} if target.flags else {"url": target.url}),
        "settings": {
            "load": asdict(experiment.load), "asking": asdict(experiment.asking), "slo": asdict(experiment.objective),
            "warm_up": experiment.warm_up,
            "prompts": client.writer.description,
        },
    }  # fmt: skip
