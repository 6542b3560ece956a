"""The metrics reference, generated from the catalogue: ``python -m hisparse_metrics.docs [--check] [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from hisparse_metrics import catalogue, generated_page
from hisparse_metrics.metric import Kind, Label, Metric

DEFAULT_PATH = Path("docs/metrics.md")

_INTRODUCTION = """# Metrics

Generated from `hisparse_metrics.catalogue` by `python -m hisparse_metrics.docs`; `--check` fails when it is stale.

`/metrics` speaks the Prometheus text format 0.0.4 and OpenMetrics. Names and units are a contract: base units,
counters end in `_total`, usages are ratios from 0 to 1. No series carries a timestamp or a `_created` companion.
Labels come from closed sets, so the number of series per engine is a constant.

## After an engine's death

An engine holds a lock on its stats page for its whole life, and the kernel drops it at any death. From the next
scrape on, `hisparse_engine_up` is 0. Counters, histograms, identity and times stay as they were; levels (marked ↓
below) are no longer exported, because a dead engine holds no tokens. After the retention time (an hour unless
`--retention` says otherwise) the engine is no longer reported. When two pages have the same labels, the engine that
started last is exported.

An engine that is alive but stuck is told by `time() - hisparse_engine_last_step_timestamp_seconds` while
`hisparse_running_requests` is above 0.
"""


def render() -> str:
    """Return the whole reference as Markdown."""
    sections = (_section(name, tuple(metrics)) for name, metrics in _by_section())
    return "\n".join([_INTRODUCTION, _label_table(), *sections])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reference, or with ``--check`` compare it; return the exit status."""
    return generated_page.run(arguments, render(), DEFAULT_PATH, "hisparse_metrics.docs", __doc__)


def _by_section() -> Iterator[tuple[str, Iterator[Metric]]]:
    names = list(dict.fromkeys(metric.section for metric in catalogue.ALL))
    ordered = sorted(catalogue.ALL, key=lambda metric: names.index(metric.section))
    return groupby(ordered, key=lambda metric: metric.section)


def _label_table() -> str:
    labels = dict.fromkeys(catalogue.ENGINE_LABELS + catalogue.SOURCE_LABELS)
    for metric in catalogue.ALL:
        labels |= dict.fromkeys(metric.labels)
    rows = [(f"`{label.name}`", _carriers(label), label.help, _values(label)) for label in labels]
    return _table("Labels", ("label", "on", "meaning", "values"), rows)


def _carriers(label: Label) -> str:
    if label in catalogue.ENGINE_LABELS:
        return "every engine series"
    if label in catalogue.SOURCE_LABELS:
        return "every sidecar series"
    return ", ".join(f"`{metric.name}`" for metric in catalogue.ALL if label in metric.labels)


def _values(label: Label) -> str:
    return ", ".join(f"`{value}`" for value in label.values) if label.values else "set by the deployment"


def _section(name: str, metrics: tuple[Metric, ...]) -> str:
    header = ("metric", "type", "unit", "own labels", "what it is", "the question it answers")
    table = _table(name, header, [_row(metric) for metric in metrics])
    buckets = [_buckets(metric) for metric in metrics if metric.kind is Kind.HISTOGRAM]
    return "\n".join(
        [table, *(["Upper bounds of the buckets, in seconds:\n", *buckets, ""] if buckets else [])]
    )


def _row(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label.name}`" for label in metric.labels)
    kind = f"{metric.kind} ↓" if metric.is_level else metric.kind.value
    return f"`{metric.name}`", kind, metric.unit.value, labels, metric.help, metric.question


def _buckets(metric: Metric) -> str:
    return f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}"


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(cells)} |" for cells in lines), ""])


if __name__ == "__main__":
    sys.exit(main())
