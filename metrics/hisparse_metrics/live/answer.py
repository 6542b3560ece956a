"""The history's JSON: rows as columns of numbers, ranks as a table. Turns values into bytes; decides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain

from hisparse_metrics.live.columns import COLUMNS, INDEX
from hisparse_metrics.live.history import Event, History, Slice
from hisparse_metrics.live.log_readings import LOG_COLUMNS
from hisparse_metrics.live.reading import Kind
from hisparse_metrics.live.sampler import Latest, RankLatest
from hisparse_metrics.live.state import RankState, state_of
from hisparse_metrics.live.vocabulary import stalled_seconds

MAX_RANKS_IN_TABLE = 1024
"""Of more, the worst are listed and the others counted."""

_FACTS = ("id", "kind", "state", "recorded", "labels", "mode", "step_age", "values_age")
_EXTRAS = {"retractions": "totals", "pool_tokens": "levels", "pool_usage": "levels"}
_ORDER = {state: index for index, state in enumerate(RankState)}


def numbers(values: Iterable[float]) -> str:
    """Return a JSON array; six digits are enough for a picture, and what is no number is null."""
    return f"[{','.join(f'{v:.6g}' if math.isfinite(v) else 'null' for v in values)}]"


def rows_json(rows: Slice, offset: float) -> str:
    """Return rows with Unix times; coarse ones have the lowest and the highest value of each column beside it."""
    times = ",".join(f"{time + offset:.3f}" for time in rows.times)
    parts = {"value": rows.values} | ({"low": rows.low, "high": rows.high} if rows.low else {})
    columns = (
        f'"{name}":{{{",".join(f"{json.dumps(part)}:{numbers(cols[i])}" for part, cols in parts.items())}}}'
        for i, name in enumerate(COLUMNS)
    )
    return f'{{"time":[{times}],"columns":{{{",".join(columns)}}}}}'


def events_json(events: Iterable[Event], offset: float) -> str:
    """Return events with Unix times."""
    return json.dumps([{"time": round(e.time + offset, 3), "kind": e.kind, "rank": e.rank} for e in events])


def table_json(latest: Latest, history: History) -> str:
    """Return the members about now: every rank, worst first, and how many are in which state."""
    now = latest.time + latest.offset
    states = {id(rank): state_of(rank.reading, now, stalled_seconds()) for rank in latest.ranks}
    ranks = sorted(latest.ranks, key=lambda rank: (_ORDER[states[id(rank)]], -_host_usage(rank)))
    fields = [*_FACTS, *COLUMNS, *_EXTRAS]
    rows = ",".join(
        _rank_json(rank, states[id(rank)], latest, history) for rank in ranks[:MAX_RANKS_IN_TABLE]
    )
    total = [] if latest.total is None else latest.total.values
    counts = {state.value: sum(s is state for s in states.values()) for state in RankState}
    return (
        f'"ranks":{{"fields":{json.dumps(fields)},"rows":[{rows}]}},'
        f'"total":{{{",".join(f"{json.dumps(n)}:{_exact(v)}" for n, v in zip(COLUMNS, total, strict=False))}}},'
        f'"left_out":{max(0, len(ranks) - MAX_RANKS_IN_TABLE)},"states":{json.dumps(counts)},'
        f'"never":{json.dumps(_never(latest.ranks))}'
    )


def _rank_json(rank: RankLatest, state: RankState, latest: Latest, history: History) -> str:
    reading, row_time = rank.reading, rank.row_time
    now = latest.time + latest.offset
    step_age = None if reading.last_step is None else round(max(0.0, now - reading.last_step), 1)
    values_age = step_age if row_time is None else round(latest.time - row_time, 1)
    facts = [
        reading.id, reading.kind.value, state.value, history.is_recorded(reading.id), dict(reading.labels),
        reading.facts.get("mode", ""), step_age, values_age,
    ]  # fmt: skip
    extras = [getattr(reading, where).get(name, math.nan) for name, where in _EXTRAS.items()]
    values = ",".join(_exact(value) for value in chain(rank.row.values, extras))
    return f"{json.dumps(facts, ensure_ascii=True)[:-1]},{values}]"


def _exact(value: float) -> str:
    """Return a number with every digit: the figures in the table are those of the metrics."""
    if not math.isfinite(value):
        return "null"
    return repr(int(value)) if value == int(value) else repr(value)


def _host_usage(rank: RankLatest) -> float:
    usage = rank.row.values[INDEX["host_usage"]]
    return usage if math.isfinite(usage) else -1.0


def _never(ranks: Sequence[RankLatest]) -> list[str]:
    """Return the columns that none of the sources can have, so that the page can say so instead of drawing nothing."""
    if not ranks or any(rank.reading.kind is Kind.PAGE for rank in ranks):
        return []
    return [name for name in COLUMNS if name not in LOG_COLUMNS]
