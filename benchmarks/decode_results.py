"""The results file of `decode.py`: runs of different models and contexts, merged into one, and its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULT = Path(__file__).parent / "results" / "decode.json"
_IDENTITY = (
    "model",
    "layers",
    "experts",
    "device_gib",
    "index_keys",
    "selection",
    "context",
    "mode",
    "concurrency",
)
"""Two rows that agree in these measure the same thing; the later one replaces the earlier."""


def merge(before: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all rows, each thing once, in an order that does not depend on who was measured first."""
    rows = {identity(row): row for row in [*before, *new]}
    return [rows[key] for key in sorted(rows, key=str)]


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row measures."""
    return tuple(row.get(key) for key in _IDENTITY)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def write(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge rows into the file, and return all that it has now; what else is in it stays."""
    merged = merge(read(path), rows)
    others = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"benchmark": "decode"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(others | {"rows": merged}, indent=1) + "\n", encoding="utf-8")
    return merged


def best(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any] | None:
    """Return the row of the highest throughput among those that agree with ``wanted``."""
    found = [
        row
        for row in rows
        if all(row.get(key) == value for key, value in wanted.items()) and "error" not in row
    ]
    return max(found, key=lambda row: row["tokens_per_second"], default=None)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line for each cell."""
    table = Table(title="decode at equal device bytes for KV")
    headings = (
        "model",
        "selection",
        "context",
        "mode",
        "requests",
        "tokens/s",
        "step ms",
        "ITL p50",
        "ITL p99",
        "misses",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        about = (row["model"], row["selection"], row["context"], row["mode"], row["concurrency"])
        if "error" in row:
            table.add_row(*map(str, about), row["error"][:40])
            continue
        figures = ("tokens_per_second", "step_ms", "itl_p50_ms", "itl_p99_ms", "misses_per_step")
        table.add_row(*map(str, about), *(f"{row[key]:,.2f}" for key in figures))
    Console(width=150).print(table)
