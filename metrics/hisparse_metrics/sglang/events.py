"""The other lines worth a counter: a table of what each says, and the numbers in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hisparse_metrics.sglang.prefix import MAX_PREFIX, read_prefix
from hisparse_metrics.sglang.records import EventKind, Value

_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A message is known by ``needle``; ``numbers`` are searched behind it; its groups are named by keys."""

    kind: EventKind
    needle: str
    numbers: re.Pattern[str] | None = None


def _message(kind: EventKind, needle: str, numbers: str = "") -> Message:
    return Message(kind, needle, re.compile(numbers, re.ASCII) if numbers else None)


_N = r"[0-9]{1,18}"
MESSAGES: tuple[Message, ...] = (
    _message(
        EventKind.HOST_ALLOCATION_FAILED,
        "HiSparse: host mem pool alloc failed for ",
        rf"\A(?:(?P<host_pages>{_N}) (?:host )?pages|(?P<host_tokens>{_N}) (?:backup )?tokens)",
    ),
    # Elsewhere the exception's text only repeats what was logged; here it is all there is.
    _message(
        EventKind.HOST_ALLOCATION_FAILED,
        "HiSparse host mem pool alloc failed for ",
        rf"\A(?P<host_tokens>{_N}) tokens in _pre_alloc",
    ),
    _message(EventKind.DEVICE_ALLOCATION_FAILED, "HiSparse: alloc_device_buffer failed for req"),
    _message(EventKind.RETRACTION, "#retracted_reqs: ", rf"\A(?P<retracted_requests>{_N})(?:,|\Z)"),
    _message(EventKind.SYNCHRONOUS_SWAP_IN, "falling back to synchronous swap-in"),
    _message(EventKind.SERVER_READY, "The server is fired up and ready to roll!"),
    _message(EventKind.SCHEDULER_EXCEPTION, "Scheduler hit an exception: "),
    _message(EventKind.CRASH, "Received sigquit from a child process"),
    _message(
        EventKind.CAPACITY,
        "] max_total_num_tokens=",
        rf"\A(?P<max_total_num_tokens>{_N}),|\bmax_running_requests=(?P<max_running_requests>{_N}),"
        rf"|\bcontext_len=(?P<context_len>{_N}),",
    ),
    _message(EventKind.CAPACITY, "KV Cache is allocated. ", rf"#tokens: (?P<kv_cache_tokens>{_N}),"),
    _message(
        EventKind.CAPACITY,
        "Allocating ",
        r"\A(?P<host_gigabytes>[0-9]{1,9}\.[0-9]{2}) GB host memory for hierarchical KV cache",
    ),
)
"""A line is the first message whose needle it has."""


def find_event(text: str) -> tuple[EventKind, dict[str, Value]] | None:
    """Return what ``text`` reports, or ``None``. A line that echoes a command or settings is no report."""
    for message in MESSAGES:
        if message.needle in text:
            return _read(message, text)
    return None


def _read(message: Message, text: str) -> tuple[EventKind, dict[str, Value]] | None:
    at = text.find(message.needle)
    end = at + len(message.needle)
    values = read_prefix(text[max(0, end - MAX_PREFIX) : end]).values
    if message.numbers is None:
        return message.kind, values
    found = list(message.numbers.finditer(text[end : end + _MAX_TEXT].rstrip()))
    for match in found:
        values.update((key, _number(text)) for key, text in match.groupdict().items() if text)
    return (message.kind, values) if found else None


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)
