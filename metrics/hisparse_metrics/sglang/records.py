"""What the log says, as plain values: decode and prefill records, and events worth a counter."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

Value = bool | int | float | str


class Record(NamedTuple):
    """One decode or prefill line.

    ``line`` is the 1-based physical line on which the record ended. ``values`` has ``phase`` and our own words:
    ``device_tokens``, ``host_token_usage``, ``dp_rank``, ``date``, ``time``, ...; what the line does not say is
    absent. ``unknown_fields`` were skipped. ``origin`` names who wrote the line where an envelope tells (a pod, a
    container, a Ray process), so that two writers in one stream can be kept apart.
    """

    line: int
    values: Mapping[str, Value]
    unknown_fields: int = 0
    origin: str = ""


class EventKind(StrEnum):
    """What happened.

    ``SERVER_READY`` marks the end of a start. A crash of the server may come with one scheduler exception a rank.
    """

    HOST_ALLOCATION_FAILED = "host_allocation_failed"
    DEVICE_ALLOCATION_FAILED = "device_allocation_failed"
    RETRACTION = "retraction"
    SYNCHRONOUS_SWAP_IN = "synchronous_swap_in"
    SERVER_READY = "server_ready"
    SCHEDULER_EXCEPTION = "scheduler_exception"
    CRASH = "crash"
    CAPACITY = "capacity"


class Event(NamedTuple):
    """Another line worth a counter.

    ``values`` holds ``date``, ``time`` and the ranks where the line has a prefix, and the numbers that the kind
    carries, each as the line has it: ``host_pages``, ``host_tokens``, ``retracted_requests``,
    ``max_total_num_tokens``, ...
    """

    line: int
    kind: EventKind
    values: Mapping[str, Value]
    origin: str = ""
