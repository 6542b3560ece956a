"""The decode log's grammar: render a line, parse it back. A dialect is a table entry, not a pattern.

``[2026-11-22 10:00:00] Decode batch, #running-req: 3, #gpu-token: 20800, gpu token usage: 0.29, ...``

A text line is a bracketed local time, a marker, and ``name: value`` fields. Fields are found by name, in any order;
unknown ones are skipped and counted. A known field whose value is not exactly in its form makes the whole line no
record: a value that was cut short must not become a number.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hisparse_metrics.stats import HiSparseTokenStats, PoolStats, StepStats

_MAX_LINE = 65536
_JSON_KEYS = (
    "timestamp", "running_requests", *HiSparseTokenStats._fields, "generation_throughput", "waiting_requests",
)  # fmt: skip


class LogFormat(StrEnum):
    """``split`` shows both tiers, ``legacy`` the single old figure, ``json`` one object a line."""

    SPLIT = "split"
    LEGACY = "legacy"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class DecodeRecord:
    """What one line says. ``timestamp`` is Unix seconds, ``None`` where the line has no time.

    ``generation_throughput`` is in tokens per second. ``unknown_fields`` counts the fields that were skipped.
    """

    timestamp: float | None
    pool: PoolStats
    running_requests: int
    waiting_requests: int
    generation_throughput: float
    unknown_fields: int = 0


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a text dialect: the exact form of its value, and the key that it means."""

    key: str
    form: re.Pattern[str]
    read: Callable[[str], float]


_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)
_USAGE = re.compile(r"[0-9]{1,3}\.[0-9]{2}", re.ASCII)
_RATE = re.compile(r"[0-9]{1,18}\.[0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to print the decode line: its marker, and its fields by printed name."""

    name: str
    marker: str
    fields: Mapping[str, Field]


_COMMON = {
    "#running-req": Field("running_requests", _COUNT, int),
    "#queue-req": Field("waiting_requests", _COUNT, int),
    "gen throughput (token/s)": Field("generation_throughput", _RATE, float),
}
_SINGLE = {
    "#token": Field("tokens", _COUNT, int),
    "token usage": Field("token_usage", _USAGE, float),
}
_SPLIT = {
    "#gpu-token": Field("device_tokens", _COUNT, int),
    "gpu token usage": Field("device_token_usage", _USAGE, float),
    "#cpu-token": Field("host_tokens", _COUNT, int),
    "cpu token usage": Field("host_token_usage", _USAGE, float),
}

DIALECTS: tuple[Dialect, ...] = (Dialect("hisparse", "Decode batch, ", _COMMON | _SINGLE | _SPLIT),)
"""Every text dialect, in the order in which they are tried."""


def render(stats: StepStats, generation_throughput: float, log_format: LogFormat = LogFormat.SPLIT) -> str:
    """Return the line for ``stats``, without a line end; ``generation_throughput`` in tokens per second."""
    if log_format is LogFormat.JSON:
        return _render_json(stats, generation_throughput)
    pool = stats.pool
    if log_format is LogFormat.LEGACY:
        pool = PoolStats.from_token_stats(stats.token_stats, is_hisparse=False)
    parts = [
        f"#running-req: {stats.levels.running_requests}",
        *pool.get_decode_usage_msg_parts(),
        f"gen throughput (token/s): {generation_throughput:.1f}",
        f"#queue-req: {stats.levels.waiting_requests}",
    ]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stats.timestamp))
    return f"[{when}] Decode batch, {', '.join(parts)}"


def parse(line: str) -> DecodeRecord | None:
    """Return what ``line`` says, or ``None`` when it is not a whole decode line. Never raises; linear time."""
    line = line.rstrip("\r\n")
    if len(line) > _MAX_LINE:
        return None
    if line.startswith("{"):
        return _parse_json(line)
    records = (_parse_text(line, dialect) for dialect in DIALECTS)
    return next((record for record in records if record), None)


def _render_json(stats: StepStats, generation_throughput: float) -> str:
    split = stats.token_stats
    return json.dumps({
        "timestamp": stats.timestamp,
        "is_hisparse": stats.is_hisparse,
        "running_requests": stats.levels.running_requests,
        **split._asdict(),
        "generation_throughput": generation_throughput,
        "waiting_requests": stats.levels.waiting_requests,
    })  # fmt: skip


def _parse_text(line: str, dialect: Dialect) -> DecodeRecord | None:
    prefix, marker, body = line.partition(dialect.marker)
    if not marker:
        return None
    values: dict[str, float] = {}
    parts = body.split(", ")
    try:
        known = [_read_field(part, dialect, values) for part in parts]
        return _record(_parse_time(prefix), _text_pool(values), values, known.count(False))
    except (ValueError, KeyError):
        return None


def _read_field(part: str, dialect: Dialect, values: dict[str, float]) -> bool:
    """Put one field's value into ``values``; tell whether the dialect knows it."""
    name, _, text = part.partition(": ")
    field = dialect.fields.get(name)
    if field is None:
        return False
    if field.key in values or not field.form.fullmatch(text):
        raise ValueError
    values[field.key] = field.read(text)
    return True


def _parse_json(line: str) -> DecodeRecord | None:
    try:
        values = json.loads(line)
        numbers = {key: _number(values[key]) for key in _JSON_KEYS}
        is_hisparse = values["is_hisparse"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(is_hisparse, bool):
        return None
    pool = PoolStats.from_token_stats(_split(numbers), is_hisparse=is_hisparse)
    return _record(numbers["timestamp"], pool, numbers, len(values.keys() - _JSON_KEYS) - 1)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value


def _record(
    timestamp: float | None, pool: PoolStats, values: Mapping[str, float], unknown: int
) -> DecodeRecord:
    running, waiting = int(values["running_requests"]), int(values["waiting_requests"])
    return DecodeRecord(timestamp, pool, running, waiting, values["generation_throughput"], unknown)


def _text_pool(values: Mapping[str, float]) -> PoolStats:
    """Build the pools from the split where the line has it, else from the single figure."""
    if "tokens" not in values:
        return PoolStats.from_token_stats(_split(values), is_hisparse=True)
    single = HiSparseTokenStats(int(values["tokens"]), values["token_usage"], 0, 0.0)
    return PoolStats.from_token_stats(single, is_hisparse=False)


def _split(values: Mapping[str, float]) -> HiSparseTokenStats:
    return HiSparseTokenStats(
        int(values["device_tokens"]),
        values["device_token_usage"],
        int(values["host_tokens"]),
        values["host_token_usage"],
    )


def _parse_time(prefix: str) -> float | None:
    """Read the local time in the last bracket of ``prefix``."""
    opening = prefix.rfind("[")
    closing = prefix.find("]", opening)
    try:
        return datetime.fromisoformat(prefix[opening + 1 : closing]).timestamp() if opening >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None
