"""One stream of a log: its lines through the parser, or past it where skimming already knows what they come to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import compress

from hisparse_metrics.sglang import Event, LogParser, Record
from hisparse_metrics.sidecar.held import HeldLines
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.skim import NOTHING, READ, Decode, Verdicts


class Stream:
    """The parser of one stream, what it holds back, and what of its counts is already in the log's."""

    def __init__(self, name: str, parser: LogParser, verdicts: Verdicts) -> None:
        self.name = name
        self.parser = parser
        self._verdicts = verdicts
        self._held = HeldLines()
        self._counted = {outcome: getattr(parser, outcome) for outcome in ("parsed", "ignored", "malformed")}

    def take(self, lines: Sequence[bytes], cut: Collection[int], log: LogState, time: float) -> None:
        """Take in complete lines; of those at the indices ``cut`` only the beginning is here.

        What is held back is taken in by :meth:`settle`.
        """
        was_pending, hold = self.parser.has_pending, self._held.hold
        # While a line's end is to come, any line may be that.
        verdicts = [READ] * len(lines) if was_pending else self._verdicts.of(lines)
        for index, verdict in compress(enumerate(verdicts), verdicts):
            if isinstance(verdict, Decode):
                hold(lines[index], verdict)
            elif self._read(lines[index], index in cut, log, time) and not was_pending:
                log.lines["ignored"] += verdicts[:index].count(NOTHING)
                return self.take(lines[index + 1 :], [at - index - 1 for at in cut], log, time)
        log.lines["ignored"] += verdicts.count(NOTHING)
        return None

    def settle(self, log: LogState, time: float) -> None:
        """Take in what was held back, and bring the log's counts up to date."""
        self._read_held(log, time)
        self._count(log)
        log.settle(time)

    def finish(self, log: LogState, time: float) -> None:
        """End the stream: what is pending will never be whole."""
        self._read_held(log, time)
        take_all(log, self.parser.finish(), time)
        self._count(log)

    def _read(self, line: bytes, is_cut: bool, log: LogState, time: float) -> bool:
        """Take in what a line says, after the lines held back before it; return whether a part is pending."""
        parser = self.parser
        if is_cut:
            log.lines["malformed"] += 1
            return parser.has_pending
        was_pending, malformed = parser.has_pending, parser.malformed
        items = parser.feed(line)
        if items:
            self._read_held(log, time)
            take_all(log, items, time)
        if not (was_pending or parser.has_pending or parser.malformed > malformed):
            self._verdicts.learn(line, items)
        return parser.has_pending

    def _read_held(self, log: LogState, time: float) -> None:
        """Take in the newest line of each writer, and count those that it replaced like itself."""
        for held in self._held.take():
            refused = log.refused_records
            take_all(log, self.parser.feed(held.inside), time)
            log.refused_records += held.replaced * (log.refused_records - refused)
            log.unknown_fields += held.replaced_unknown_fields
            log.lines["parsed"] += held.replaced

    def _count(self, log: LogState) -> None:
        """Add the lines parsed since the last call to the log's outcomes."""
        for outcome, before in self._counted.items():
            # A line whose end comes later is taken back from the ignored ones: a counter must not fall.
            self._counted[outcome] = max(before, getattr(self.parser, outcome))
            log.lines[outcome] += self._counted[outcome] - before


def take_all(log: LogState, items: Iterable[Record | Event], time: float) -> None:
    """Take in several items of one moment."""
    for item in items:
        log.take(item, time)
