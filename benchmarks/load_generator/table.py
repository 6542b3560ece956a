"""A run on the terminal: a line of progress while it lasts, a table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.load_generator.measure import Show
from benchmarks.load_generator.records import Outcome, Run
from benchmarks.load_generator.runner import Runner
from benchmarks.load_generator.sampler import Sampler
from benchmarks.load_generator.settings import Load

_COLUMNS = ("p50", "p90", "p99", "max")
_BUSY = 0.7
"""Share of a core from which on the generator may delay what it times."""


@contextmanager
def progress(load: Load, console: Console) -> Iterator[Show | None]:
    """Yield what shows progress; None where nobody watches."""
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("load", total=load.num_requests or load.duration, now="")

        def show(runner: Runner, sampler: Sampler) -> None:
            ended = sum(record.ended > 0 for record in runner.records)
            done = ended if load.num_requests else max((r.scheduled for r in runner.records), default=0.0)
            bar.update(task, completed=done, now=_now(runner, sampler, ended))

        yield show


def _now(runner: Runner, sampler: Sampler, ended: int) -> str:
    counts = Counter(record.outcome for record in runner.records if record.ended > 0)
    parts = [f"{len(runner.records) - ended} open"] + [f"{n} {outcome}" for outcome, n in counts.items()]
    last = sampler.samples[-1] if sampler.samples else None
    if last is not None and last.host_usage is not None:
        parts.append(f"host {last.host_usage:.0%}")
    if last is not None and last.device_usage is not None:
        parts.append(f"device {last.device_usage:.0%}")
    return ", ".join(parts)


def print_run(run: Run, console: Console) -> None:
    """Print the table of latencies, and beneath it what else a person wants to know."""
    summary = run.summary
    console.print(_title(run), highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for label, key in (
        ("time to first token", "ttft_s"), ("inter-token latency", "itl_s"), ("duration", "duration_s"),
    ):  # fmt: skip
        spread = summary[key] or {}
        table.add_row(label, *(_time(spread.get(name)) for name in _COLUMNS))
    console.print(table)
    for label, text in _lines(run):
        console.print(f"{label:20} {text}", highlight=False, soft_wrap=True)


def _title(run: Run) -> str:
    server, machine = run.about["server"], run.about["machine"]
    return (
        f"{server['model']}   {len(run.records)} requests in {run.summary['wall_s']:.1f} s   "
        f"load average {machine['load_average_before']} on {machine['cores']} cores"
    )


def _lines(run: Run) -> Iterator[tuple[str, str]]:
    summary, slo = run.summary, run.about["settings"]["slo"]
    good, prompt = summary["goodput"], summary["prompt_tokens"]
    yield "outcomes", ", ".join(f"{n} {outcome}" for outcome, n in summary["outcomes"].items() if n) or "none"
    if summary["refusals"]:
        wait = summary["retry_after_s"]
        said = f"Retry-After {wait['p50']:g} s (median)" if wait else "without Retry-After"
        yield "refusals", f"{summary['refusals']}, {said}"
    yield (
        "throughput",
        f"{summary['output_tokens_per_s']:.1f} tokens/s, {summary['requests_per_s']:.2f} requests/s",
    )
    yield (
        "goodput",
        (
            f"{good['output_tokens_per_s']:.1f} tokens/s, {good['requests_per_s']:.2f} requests/s "
            f"with first token in {slo['ttft']:g} s and the next in {slo['itl']:g} s on average"
        ),
    )
    if prompt["asked"]:
        yield (
            "prompt tokens",
            f"{prompt['asked']:,}, of which {prompt['cached']:,} cached ({prompt['cached'] / prompt['asked']:.0%})",
        )
    yield from _server_lines(summary)
    late, generator = summary["generator_late_s"], run.about["generator"]
    lag = f", late by {_time(late['p99'])} at p99" if late else ""
    warning = "; it is a bottleneck itself" if generator["cpu_share"] > _BUSY else ""
    yield "generator", f"{generator['cpu_share']:.1%} of a core{lag}{warning}"
    for message, count in summary["messages"].items():
        yield f"{count} times", message[:200]


def _server_lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    peaks = summary["peaks"]
    parts = [
        f"{name.split('_')[0]} {peaks[name]:.0%}" for name in ("host_usage", "device_usage") if name in peaks
    ]
    parts += [f"{peaks[name]:.0f} {name}" for name in ("running", "waiting") if name in peaks]
    if parts:
        yield "peaks", ", ".join(parts)
    if retractions := summary["server"].get("retractions"):
        yield "retractions", f"{retractions:.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def failed(run: Run) -> bool:
    """Whether the run as such went wrong: nothing was answered."""
    return not any(record.outcome is Outcome.OK for record in run.records)
