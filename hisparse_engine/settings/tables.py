"""A configuration's report as tables for a person. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hisparse_engine.plan.text import memory_table, plain_console, table
from hisparse_engine.settings.report import Concurrency, Report


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the tables; off a terminal as wide as they are, so that no value is cut."""
    console = plain_console(console)
    rows = [(row.setting, _shown(row.value), row.origin) for row in report.settings]
    console.print(table("Settings", ("setting", "value", "from"), rows))
    if report.model is not None and report.plan is not None:
        console.print(_model_line(report.model), soft_wrap=True)
        console.print(memory_table(report.plan))
        console.print(_concurrency_table(report.concurrency, resident=report.plan.resident))
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _model_line(model: dict[str, object]) -> str:
    dtypes = str(model["dtype"]) + (", KV rows in float8" if model["kv_row_dtype"] == "float8" else "")
    return (
        f"\n{model['architecture']}: {model['num_hidden_layers']} layers, {model['num_full_indexer_layers']} index groups, "
        f"rows of {model['kv_row_dim']} and index keys of {model['index_head_dim']} elements, "
        f"top-k {model['index_topk']}, {model['max_position_embeddings']} positions, {dtypes}\n"
    )


def _concurrency_table(rows: Sequence[Concurrency], *, resident: bool) -> Table:
    header = ["context", "requests", "if resident", "first to run out", "needs / has", "raise"]
    cells = [
        (f"{row.context:,}", f"{row.requests:,}", f"{row.resident_requests:,}", row.first_to_run_out,
         f"{row.needed:,} / {row.capacity:,}", row.raise_setting)
        for row in rows
    ]  # fmt: skip
    title = "Requests at the same time"
    if not resident:
        return table(
            f"{title} (if resident: with every row in the same device memory)",
            header,
            cells,
            numbers=(0, 1, 2),
        )
    del header[2]
    return table(title, header, [(*row[:2], *row[3:]) for row in cells], numbers=(0, 1))


def _shown(value: object) -> str:
    if value is None:
        return "—"
    return str(value).lower() if isinstance(value, bool) else str(value)
