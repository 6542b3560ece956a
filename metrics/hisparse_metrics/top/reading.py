"""What one read gives: the figures of every rank under the catalogue's names, whichever engine they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from hisparse_metrics.histogram import Histogram
from hisparse_metrics.metric import Metric


def printable(text: str) -> str:
    """Return ``text`` without what a terminal would obey: sources are not always friends."""
    return "".join(character if character.isprintable() else "?" for character in text)


class TopError(Exception):
    """What was asked for cannot be shown; the message names the input, the reason and the remedy."""


class ReadError(Exception):
    """A source could not be read this time; the message names it and the reason. The next read may succeed."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Engine(StrEnum):
    """Whose figures: they come at different paces, and not all engines tell the same."""

    HISPARSE = "hisparse"
    SGLANG = "sglang"
    """As the sidecar reads it from a log."""
    VLLM = "vllm"


class RankKey(NamedTuple):
    """Which rank of which engine. ``source`` is the log that a sidecar reads, empty elsewhere."""

    engine_name: str
    model_name: str = ""
    dp_rank: str = ""
    pp_rank: str = ""
    tp_rank: str = ""
    ep_rank: str = ""
    source: str = ""

    @property
    def token_owner(self) -> tuple[str, ...]:
        """Whose tokens these are: tensor-, pipeline- and expert-parallel ranks hold parts of the same tokens."""
        return self.engine_name, self.model_name, self.dp_rank, self.source

    @property
    def place(self) -> tuple[tuple[int, str], ...]:
        """What ranks are sorted by: numbers as numbers."""
        return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in self)


@dataclass(frozen=True, slots=True)
class RankSample:
    """One rank at one moment. ``values`` is by metric name; what is not there is not known.

    ``steps`` are the decode steps' durations so far. ``log_state`` is the sidecar's verdict on the engine behind a log.
    """

    key: RankKey
    engine: Engine
    values: Mapping[str, float]
    steps: Histogram | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    log_state: str = ""

    def value(self, metric: Metric) -> float | None:
        """Return the value of ``metric``, ``None`` where this engine does not tell."""
        return self.values.get(metric.name)


@dataclass(frozen=True, slots=True)
class Reading:
    """Every rank of a source. ``time`` is Unix seconds, ``moment`` seconds of a clock that only goes forward."""

    time: float
    moment: float
    ranks: tuple[RankSample, ...]
    note: str = ""
    """What the reader should know about it, such as pages that were left out."""


class Source(Protocol):
    """Where readings come from."""

    @property
    def about(self) -> str:
        """The source in the user's words, without secrets."""

    def read(self) -> Reading:
        """Read once; :class:`ReadError` when that fails."""
