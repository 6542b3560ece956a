"""What an engine calls after each step. No I/O call, no lock, no GPU; a few microseconds."""

from __future__ import annotations

import logging
import math
import operator
import struct
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from hisparse_metrics import catalogue
from hisparse_metrics.cells import HISTOGRAM_SPANS, SCALAR_FIELDS
from hisparse_metrics.page import PageWriter
from hisparse_metrics.page_layout import CELLS_IN_SLOT
from hisparse_metrics.stats import EngineIdentity, Levels, StepStats, Totals

_log = logging.getLogger(__name__)

_STEP_FIELDS = (*Levels._fields, *Totals._fields, catalogue.ENGINE_LAST_STEP_TIMESTAMP_SECONDS.field)
_in_cell_order = operator.itemgetter(*map(_STEP_FIELDS.index, SCALAR_FIELDS))
_SCALARS = struct.Struct(f"={len(SCALAR_FIELDS)}d")


class Recorder:
    """Publishes one rank's steps to its stats page, from its creation until :meth:`close`.

    For one thread. As a context manager it leaves the page behind when it ends, so that an exporter can say that
    the engine is down and keep its last counters.
    """

    def __init__(
        self, stats_dir: Path, identity: EngineIdentity, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Claim the page of ``identity`` in ``stats_dir``; raises like :class:`~hisparse_metrics.page.PageWriter`.

        ``clock`` gives Unix seconds; it is asked once, for the start time.
        """
        start_time = clock()
        self._page = PageWriter(stats_dir, identity, start_time)
        self._cells = self._page.cells
        self._last_step = start_time
        self._decode_steps = 0
        self.dropped_observations = 0
        self._publish_scalars(Levels(), Totals())
        self._page.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The page's file."""
        return self._page.path

    def publish(self, step: StepStats) -> None:
        """Make ``step`` visible to every reader. Does nothing after :meth:`close` and in a forked child."""
        if self._page.closed:
            return
        if step.totals.decode_steps != self._decode_steps:
            self._decode_steps = step.totals.decode_steps
            self._last_step = step.timestamp
        self._publish_scalars(step.levels, step.totals)
        for field, seconds, count in step.durations:
            self._observe(field, seconds, count)
        self._page.commit()

    def close(self, *, unlink: bool = False) -> None:
        """Stop publishing; ``unlink`` also takes the page away, so that no exporter reports this engine as down."""
        self._page.close(unlink=unlink)

    def _publish_scalars(self, levels: Levels, totals: Totals) -> None:
        values = (*levels, *totals, self._last_step)
        _SCALARS.pack_into(self._page.slot.raw, CELLS_IN_SLOT, *_in_cell_order(values))

    def _observe(self, field: str, seconds: float, count: int) -> None:
        span = HISTOGRAM_SPANS.get(field)
        if span is None or not 0.0 <= seconds < math.inf:
            return self._drop(field, seconds)
        self._cells[span.first + bisect_left(span.bounds, seconds)] += count
        self._cells[span.sum] += seconds * count
        return None

    def _drop(self, field: str, seconds: float) -> None:
        """Count what no histogram can hold: the observer may fail, the observed may not."""
        if not self.dropped_observations:
            _log.error(
                "cannot record a duration of %r seconds as %r; further ones are only counted", seconds, field
            )
        self.dropped_observations += 1
