"""Readings, clocks and answers for the tests of the live page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hisparse_metrics.histogram import Histogram
from hisparse_metrics.live.api import HistoryApi
from hisparse_metrics.live.columns import INDEX, NAN, WIDTH
from hisparse_metrics.live.reading import Kind, RankReading
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.web.messages import Request, Response

BOUNDS = (0.01, 0.02, 0.04)


def row(**values: float) -> list[float]:
    """Return a row with some columns set."""
    cells = [NAN] * WIDTH
    for name, value in values.items():
        cells[INDEX[name]] = value
    return cells


def reading(
    dp: int = 0, *, tp: int = 0, up: bool = True, started: float = 1.0, counts: Sequence[float] = (0, 0, 0, 0), **fields: Any
) -> RankReading:  # fmt: skip
    """Return a page's reading; ``levels`` and ``totals`` as given."""
    labels = (("engine_name", "e"), ("model_name", "m"), ("dp_rank", str(dp)), ("tp_rank", str(tp)))
    histograms = {"step": Histogram(BOUNDS, tuple(counts))}
    made = RankReading(
        Kind.PAGE, labels, up, started, object(), is_current=up, last_step=0.0, histograms=histograms
    )
    return replace(made, **fields)


class Machine:
    """Clocks that a test moves, and the readings that it sets; a sampler over them."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.wall_offset = 1_795_000_000.0
        self.cost = 0.0
        self.cpu = 0.0
        self.ranks: Sequence[RankReading] = ()
        self.sampler = Sampler(
            self._read,
            steady=lambda: self.now,
            wall=lambda: self.now + self.wall_offset,
            cpu=lambda: self.cpu,
        )
        self.api = HistoryApi(self.sampler, "page")

    def _read(self) -> Sequence[RankReading]:
        self.cpu += self.cost
        return self.ranks

    def turn(self, *ranks: RankReading, seconds: float = 1.0) -> float:
        """Let time pass, then sample ``ranks``; return the seconds until the next sample."""
        self.now += seconds
        self.ranks = ranks
        return self.sampler.turn()

    def ask(self, query: str = "", encoding: str = "") -> Response:
        """Return the answer to a query."""
        return self.api.respond(Request("GET", "/api/v1/history", accept_encoding=encoding, query=query))

    def answer(self, query: str = "") -> dict[str, Any]:
        """Return what the answer to a query says."""
        response = self.ask(query)
        assert response.status == 200, response.body
        found: dict[str, Any] = json.loads(response.body)
        return found

    def table(self) -> list[dict[str, Any]]:
        """Return the ranks of an answer as objects."""
        ranks = self.answer()["ranks"]
        return [dict(zip(ranks["fields"], values, strict=True)) for values in ranks["rows"]]
