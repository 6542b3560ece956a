"""What a run measured: one record a request, one sample of the server a second; to JSON and back without loss.

Times are seconds since the run began; ``began`` is the Unix time of that moment.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    REFUSED = "refused"
    """429 or 503: the server has enough to do; the request was not sent again, or not often enough."""
    REJECTED = "rejected"
    """Another 4xx: the server will not run it at all."""
    ERROR = "error"
    """No connection, 5xx, or an error within the stream."""
    CUT = "cut"
    """Out of time, or the stream ended before the answer did."""


@dataclass
class Record:
    """One request. ``scheduled`` is when it was due: latencies count from there, so a late generator shows."""

    number: int
    chat: int
    turn: int
    scheduled: float
    limit: int
    sent: float = 0.0
    tokens_at: list[float] = field(default_factory=list)
    """When each piece of the answer came; a server may send several tokens as one piece."""
    ended: float = 0.0
    outcome: Outcome = Outcome.CUT
    refused_at: list[float] = field(default_factory=list)
    """When it was refused; more than once where it was sent again."""
    retry_after: float | None = None
    message: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int = 0
    digest: str = ""
    """Of the answer's token ids, or of its text: equal answers have equal digests."""

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.outcome)

    @property
    def ttft(self) -> float | None:
        """Time to first token."""
        return self.tokens_at[0] - self.scheduled if self.tokens_at else None

    @property
    def gaps(self) -> list[float]:
        """Inter-token latencies."""
        return [b - a for a, b in zip(self.tokens_at, self.tokens_at[1:], strict=False)]

    @property
    def mean_itl(self) -> float | None:
        """Time per output token after the first, from the server's own count of tokens."""
        if len(self.tokens_at) < 2:
            return None
        tokens = max(self.output_tokens, len(self.tokens_at))
        return (self.tokens_at[-1] - self.tokens_at[0]) / (tokens - 1)

    @property
    def duration(self) -> float:
        """From when it was due to its end."""
        return self.ended - self.scheduled


@dataclass(frozen=True)
class Sample:
    """The server's own figures at one moment; None where it does not export one."""

    time: float
    device_tokens: float | None = None
    device_usage: float | None = None
    device_spare: float | None = None
    device_capacity: float | None = None
    host_tokens: float | None = None
    host_usage: float | None = None
    host_capacity: float | None = None
    host_reserved: float | None = None
    host_cached: float | None = None
    index_tokens: float | None = None
    running: float | None = None
    staging: float | None = None
    waiting: float | None = None
    retractions: float | None = None
    generation_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    violations: float | None = None


@dataclass
class Run:
    """Everything about one run. ``about``: tool, date, machine, server, settings; ``summary``: what follows."""

    about: dict[str, Any]
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def to_json(self, *, every_token: bool = True) -> dict[str, Any]:
        """Return plain values; samples as columns and rows, without columns that no sample has.

        Without ``every_token`` only the first and the last one keep their times, which is enough for TTFT and mean ITL.
        """
        names = [f.name for f in fields(Sample) if any(getattr(s, f.name) is not None for s in self.samples)]
        rows = [[_rounded(getattr(sample, name)) for name in names] for sample in self.samples]
        return {
            **self.about,
            "summary": self.summary,
            "samples": {"columns": names, "rows": rows},
            "requests": [_rounded(_plain(record, every_token)) for record in self.records],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Run:
        """Return the run that :meth:`to_json` told."""
        values = dict(values)
        samples, requests, summary = (values.pop(name) for name in ("samples", "requests", "summary"))
        return cls(
            values,
            [Record(**request) for request in requests],
            [Sample(**dict(zip(samples["columns"], row, strict=True))) for row in samples["rows"]],
            summary,
        )


def _plain(record: Record, every_token: bool) -> dict[str, Any]:
    times = record.tokens_at
    kept = times if every_token or len(times) < 3 else [times[0], times[-1]]
    return {**asdict(record), "tokens_at": kept}


def write_json(path: Path, values: Any) -> None:
    """Write readable JSON: what fits a line is on one, and so is each row of a list."""
    path.write_text(_dump(values) + "\n", encoding="utf-8")


def _dump(value: Any, indent: str = "") -> str:
    line = json.dumps(value, ensure_ascii=False)
    inner = indent + "  "
    if not isinstance(value, dict | list) or len(line) + len(indent) <= 110:
        return line
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {_dump(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + json.dumps(one, ensure_ascii=False) for one in value) + f"\n{indent}]"


def _rounded(value: Any) -> Any:
    """Tenths of a millisecond are enough."""
    match value:
        case float():
            return round(value, 4)
        case list():
            return [_rounded(one) for one in value]
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case _:
            return value
