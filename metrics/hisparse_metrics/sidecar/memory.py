"""What survives a restart of the sidecar: counters and capacities, as JSON beside the positions of the same moment.

So do the beginnings of lines that a collector cut and whose end is still to come, up to a bound. Levels do not: after
a restart nobody knows how old they are.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from hisparse_metrics.sglang import Part
from hisparse_metrics.sidecar.capacity import CapacityEstimate
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.rank import RankState
from hisparse_metrics.sidecar.ranks import RankKey
from hisparse_metrics.sidecar.state import SidecarState

VERSION = 1
MAX_PENDING = 1 << 18
"""Characters of unfinished lines that are kept, of all logs together; what is beyond counts as malformed later."""

_log = logging.getLogger(__name__)


def remember(state: SidecarState) -> dict[str, object]:
    """Return the counters and capacities of ``state`` as JSON values."""
    logs = {name: _log_json(log) for name, log in state.logs.items()}
    for name, stream, parts in _pending(state):
        logs[name]["pending"] = {"stream": stream, "parts": parts}
    return {"version": VERSION, "logs": logs}


def recall(state: SidecarState, data: Mapping[str, Any]) -> bool:
    """Put remembered values into an empty ``state``; say so in the log and start from zero when they make no sense."""
    if not data:
        return False
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, expected {VERSION}")  # noqa: TRY301 - one handler, one message
        logs = {name: _log_from(item) for name, item in data["logs"].items()}
        pending = {
            name: _pending_from(item["pending"]) for name, item in data["logs"].items() if "pending" in item
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _log.warning("cannot use the remembered counters (%s); they start from zero", error)
        return False
    state.logs.update(logs)
    for name, (stream, parts) in pending.items():
        state.open_stream(name, stream, parts)
    return True


def _pending(state: SidecarState) -> Iterator[tuple[str, str, list[Part]]]:
    """Yield log, stream and unfinished lines; those for which there is no room are given up."""
    room = MAX_PENDING
    for name in state.logs:
        stream, parts = state.pending(name)
        for index, part in enumerate(parts):
            size = len(part.text or "")
            parts[index] = part if size <= room else part._replace(text=None)
            room -= min(size, room)
        if parts:
            yield name, stream, parts


def _log_json(log: LogState) -> dict[str, object]:
    return {
        "lines": dict(log.lines),
        "unknown_fields": log.unknown_fields,
        "refused_records": log.refused_records,
        "last_line": log.last_line,
        "last_sample": log.last_sample,
        "crashed": log.crashed,
        "ranks": [_rank_json(key, rank) for key, rank in log.ranks.items()],
    }


def _rank_json(key: RankKey, rank: RankState) -> dict[str, object]:
    return {
        "key": key.to_json(),
        "counters": dict(rank.counters),
        "device": _capacity_json(rank.device),
        "host": _capacity_json(rank.host),
        "stated": rank.stated,
    }


def _capacity_json(estimate: CapacityEstimate) -> list[float | None]:
    return [estimate.low, estimate.high if math.isfinite(estimate.high) else None, estimate.stated]


def _log_from(item: Mapping[str, Any]) -> LogState:
    log = LogState(
        lines=_counts(item["lines"]),
        unknown_fields=int(item["unknown_fields"]),
        refused_records=int(item["refused_records"]),
        last_line=_optional(item["last_line"]),
        last_sample=_optional(item["last_sample"]),
        crashed=bool(item["crashed"]),
    )
    log.ranks = {RankKey.from_json(rank["key"]): _rank_from(rank) for rank in item["ranks"]}
    return log


def _rank_from(item: Mapping[str, Any]) -> RankState:
    return RankState(
        device=_capacity_from(item["device"]),
        host=_capacity_from(item["host"]),
        stated={str(name): float(value) for name, value in item["stated"].items()},
        counters=_counts(item["counters"]),
    )


def _capacity_from(item: list[Any]) -> CapacityEstimate:
    low, high, stated = item
    return CapacityEstimate(float(low), math.inf if high is None else float(high), _optional(stated))


def _pending_from(item: Mapping[str, Any]) -> tuple[str, list[Part]]:
    parts = [(origin, stream, text) for origin, stream, text in item["parts"]]
    return str(item["stream"]), [
        Part(str(origin), str(stream), None if text is None else str(text)) for origin, stream, text in parts
    ]


def _counts(item: Mapping[str, Any]) -> Counter[str]:
    return Counter({str(name): int(count) for name, count in item.items()})


def _optional(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
