"""What one metric is: a frozen, typed description. Knows no values, no page bytes and no Prometheus client."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric is stored and exposed."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


class Unit(StrEnum):
    """The unit of a value. Only base units: what is not bytes, seconds or a ratio is a count of something."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    STEPS = "steps"
    BYTES = "bytes"
    SECONDS = "seconds"
    RATIO = "ratio"
    CHECKS = "checks"
    PAGES = "pages"
    LINES = "lines"
    NONE = "none"


class Origin(StrEnum):
    """Who knows a metric's value."""

    CELLS = "cells"
    """The engine writes it into cells of its stats page."""
    PAGE = "page"
    """A reader derives it from a page: its header, its liveness, or two of its cells."""
    EXPORTER = "exporter"
    """The exporter says it about itself."""
    SOURCE = "source"
    """The sidecar says it about a log it follows; never part of a page."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label. ``values`` is its closed set; ``None`` means that the deployment decides, once per process."""

    name: str
    help: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One catalogue entry.

    ``name`` is the exposed name, with ``_total`` on counters. ``field`` names the value in
    :class:`~hisparse_metrics.stats.Levels`, ``Totals`` or a ``Duration``; with closed labels the fields are
    ``{field}_{value}``. ``ratio_of`` names the used and the capacity field of a usage. ``buckets`` are a
    histogram's finite upper bounds, in the metric's unit. ``labels`` come after ``identity``, the labels that tell
    one process from another. ``is_level`` marks what is no longer true once the engine is dead.
    """

    name: str
    kind: Kind
    unit: Unit
    section: str
    help: str
    question: str
    origin: Origin = Origin.CELLS
    field: str = ""
    ratio_of: tuple[str, str] | None = None
    labels: tuple[Label, ...] = ()
    identity: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    is_level: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of a series of this metric, identity first."""
        return tuple(label.name for label in self.identity + self.labels)

    @property
    def samples(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """Pairs of closed label values and the field that holds their value; one pair without closed labels."""
        return tuple((values, "_".join((self.field, *values))) for values in self._closed_values())

    @property
    def num_cells(self) -> int:
        """8-byte cells in a stats page: one per sample; for a histogram its buckets, +Inf and the sum."""
        if self.origin is not Origin.CELLS:
            return 0
        return len(self.buckets) + 2 if self.kind is Kind.HISTOGRAM else len(self.samples)

    def _closed_values(self) -> Iterator[tuple[str, ...]]:
        return itertools.product(*(label.values for label in self.labels if label.values is not None))
