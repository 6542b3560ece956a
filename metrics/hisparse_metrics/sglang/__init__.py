"""The grammar of SGLang's log: physical lines in, records and events out. Knows no files and no Prometheus."""

from hisparse_metrics.sglang.parser import LogParser
from hisparse_metrics.sglang.partial import Part
from hisparse_metrics.sglang.records import Event, EventKind, Record, Value

__all__ = ["Event", "EventKind", "LogParser", "Part", "Record", "Value"]
