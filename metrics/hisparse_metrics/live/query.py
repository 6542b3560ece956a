"""What a request may ask of the history: checked as a whole, one sentence about what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from hisparse_metrics.live.history import ALL
from hisparse_metrics.live.track import COARSE, FINE, Tier


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time that can be asked for, and the tier that it is made of."""

    name: str
    seconds: int
    tier: Tier


WINDOWS = {
    window.name: window
    for window in (
        Window("15m", 900, FINE),
        Window("1h", 3600, COARSE[0]),
        Window("6h", 6 * 3600, COARSE[1]),
        Window("24h", 24 * 3600, COARSE[1]),
    )
}
"""None has more rows than its tier keeps, so no answer is larger than the largest of these."""

_KNOWN = ("window", "rank", "since")
_RANK = re.compile(r"all|[0-9a-f]{12}", re.ASCII)
_CURSOR = re.compile(r"([0-9a-f]{1,24})-([0-9a-z.]{1,24})-([0-9]{1,15})-([0-9]{1,15})", re.ASCII)
_MAX_LENGTH = 256


class QueryError(Exception):
    """A query that has no answer; the message names the parameter, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where an earlier answer ended; good for the same window and rank (``of``), process and clock (``epoch``)."""

    epoch: str
    of: str
    row: int
    event: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.of}-{self.row}-{self.event}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what :meth:`__str__` wrote."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise QueryError(
                f"since={_shown(text)} is no cursor: give the cursor of an earlier answer, or none"
            )
        return cls(found[1], found[2], int(found[3]), int(found[4]))


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a window, a rank or all of them, and where to go on."""

    window: Window
    rank: str
    since: Cursor | None

    @property
    def subject(self) -> str:
        """What an answer is about: a cursor of another one cannot go on here."""
        return f"{self.window.name}.{self.rank}"

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a URL's query; :class:`QueryError` when anything in it is not understood."""
        given = _parameters(text)
        name, rank = given.get("window", "15m"), given.get("rank", ALL)
        if name not in WINDOWS:
            raise QueryError(f"window={_shown(name)} is not kept: choose one of {', '.join(WINDOWS)}")
        if not _RANK.fullmatch(rank):
            raise QueryError(f"rank={_shown(rank)} is no rank: give 'all', or an id from the answer's ranks")
        return cls(WINDOWS[name], rank, Cursor.parse(given["since"]) if "since" in given else None)


def _parameters(text: str) -> dict[str, str]:
    if len(text) > _MAX_LENGTH:
        raise QueryError(f"the query is too long: at most {_MAX_LENGTH} characters")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8)
    except ValueError:
        raise QueryError("the query cannot be read: write it as window=15m&rank=all") from None
    for name, _ in pairs:
        if name not in _KNOWN:
            raise QueryError(f"{_shown(name)} is no parameter: choose from {', '.join(_KNOWN)}")
    if len(dict(pairs)) != len(pairs):
        raise QueryError("a parameter is given twice: give each once")
    return dict(pairs)


def _shown(text: str) -> str:
    return ascii(text[:40])
