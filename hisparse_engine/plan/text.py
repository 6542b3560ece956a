"""A memory plan as text: the one table that ``plan``, ``config check`` and an engine's start print. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from hisparse_engine.memory_plan import GIB, MemoryPlan, Part

_GROUPS = {"weights": "weights", "cache": "KV cache", "step": "step", "reserve": "reserve"}
_HEADER = ("memory", "tokens", "bytes a token", "bytes", "GiB", "share")


def plain_console(console: Console | None = None) -> Console:
    """Return a console; off a terminal as wide as tables are, so that no value is cut."""
    console = console or Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(file=console.file, highlight=False, width=200)


def memory_table(
    plan: MemoryPlan, *, device_bytes: int | None = None, host_bytes: int | None = None, brief: bool = False
) -> Table:
    """Return what memory is taken for; shares are of ``device_bytes``, the plan's own by default, and ``host_bytes``.

    ``brief`` leaves out the parts of a step.
    """
    whole = device_bytes or plan.all_device_bytes
    rows: list[Sequence[str]] = []
    on_device = [part for part in plan.all_parts() if part.tier == "device"]
    for group, found in groupby(on_device, key=lambda part: part.group):
        rows += _group_rows(_GROUPS[group], list(found), whole, hide=brief and group == "step")
    rows.append(_row("device memory", plan.all_device_bytes, whole))
    rows += [_part_row("", part, host_bytes) for part in plan.all_parts() if part.tier == "host"]
    return table("Memory plan", _HEADER, rows, numbers=range(1, len(_HEADER)))


def _group_rows(name: str, parts: list[Part], whole: int, *, hide: bool) -> Iterator[Sequence[str]]:
    if len(parts) == 1:
        yield _part_row("  ", parts[0], whole)
        return
    yield _row(f"  {name}", sum(part.num_bytes for part in parts), whole)
    if not hide:
        yield from (_part_row("    ", part, whole) for part in parts)


def _part_row(indent: str, part: Part, whole: int | None) -> tuple[str, ...]:
    by_token = ("", "") if part.tokens is None else (f"{part.tokens:,}", f"{part.token_bytes or 0:,}")
    return (indent + part.name, *by_token, *_sizes(part.num_bytes, whole))


def _row(name: str, num_bytes: int, whole: int) -> tuple[str, ...]:
    return (name, "", "", *_sizes(num_bytes, whole))


def _sizes(num_bytes: int, whole: int | None) -> tuple[str, str, str]:
    return f"{num_bytes:,}", gib(num_bytes), f"{num_bytes / whole:.1%}" if whole else ""


def one_line(plan: MemoryPlan) -> str:
    """Return the plan in a line: what the device and the host hold."""
    parts = [part for part in plan.all_parts() if part.group != "step"]
    parts.insert(-1 if plan.host_bytes else len(parts), _whole_step(plan))
    device = ", ".join(f"{p.name} {_short(p)}" for p in parts if p.tier == "device" and p.num_bytes)
    host = "".join(f" · {p.name} {_short(p)}" for p in parts if p.tier == "host")
    return f"Memory: device {gib(plan.all_device_bytes)} GiB ({device}){host}"


def _whole_step(plan: MemoryPlan) -> Part:
    num_bytes = sum(part.num_bytes for part in plan.all_parts() if part.group == "step")
    return Part("step", "device", num_bytes, group="step")


def _short(part: Part) -> str:
    return f"{gib(part.num_bytes)} GiB" if part.tier == "host" else gib(part.num_bytes)


def table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> Table:
    """Return a table in the house's style; columns ``numbers`` are to the right."""
    made, right = Table(title=title, title_justify="left", box=box.SIMPLE), set(numbers)
    for i, name in enumerate(header):
        made.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell.replace("[", "\\[") for cell in row))
    return made


def gib(num_bytes: int) -> str:
    """Return GiB with three decimals."""
    return f"{num_bytes / GIB:,.3f}"
