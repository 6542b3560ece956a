"""What stands before a record: ``[2026-06-11 10:10:50.170 DP0 TP0] ``, and who printed it under Ray.

Ranks come in any order and number, each a parallel dimension (all of them end in P) and its index. A logging
configuration may put the time before the bracket, and other words into it; they are skipped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hisparse_metrics.sglang.records import Value

MAX_PREFIX = 512
_DATE = r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)"
_STAMP = re.compile(rf"(?:{_DATE}[ T])?{_TIME}(?![0-9])", re.ASCII)
_OUTSIDE = re.compile(rf"{_DATE} {_TIME}(?![0-9])", re.ASCII)
_RANK = re.compile(r"([A-Z]{1,16}(?:_[A-Z]{1,16}){0,3}(?<=P))([0-9]{1,9})", re.ASCII)
_RAY = re.compile(r"pid=([0-9]{1,10})(?:, ip=([0-9A-Fa-f.:]{2,45}))?\)", re.ASCII)


class Prefix(NamedTuple):
    """``start`` is where the prefix begins in the text that was looked at: its length where there is none."""

    values: dict[str, Value]
    start: int


def read_prefix(head: str) -> Prefix:
    """Read the prefix at the end of ``head``, which is the text before a marker. Linear in :data:`MAX_PREFIX`."""
    shift = max(0, len(head) - MAX_PREFIX)
    head = head[shift:]
    values: dict[str, Value] = {}
    start = _read_bracket(head, values)
    if "date" not in values and "time" not in values:
        start = min(start, _read_outside(head, values))
    start = min(start, _read_ray(head, values))
    return Prefix(values, shift + start)


def _read_bracket(head: str, values: dict[str, Value]) -> int:
    """Read the last bracket; return where it starts, or the end when it says nothing that we know."""
    opening = head.rfind("[")
    closing = head.find("]", opening)
    if opening < 0 or closing < 0:
        return len(head)
    inside = head[opening + 1 : closing]
    stamp = _STAMP.match(inside)
    if stamp:
        _add_stamp(stamp, values)
    words = inside.split(" ")
    ranks = (_RANK.fullmatch(word) for word in words)
    values.update((f"{found[1].lower()}_rank", int(found[2])) for found in ranks if found)
    return opening if values else len(head)


def _read_outside(head: str, values: dict[str, Value]) -> int:
    """Read the last full time anywhere in ``head``."""
    stamp = None
    for stamp in _OUTSIDE.finditer(head):  # noqa: B007 - the last one is wanted
        pass
    if stamp is None:
        return len(head)
    _add_stamp(stamp, values)
    return stamp.start()


def _add_stamp(stamp: re.Match[str], values: dict[str, Value]) -> None:
    if stamp["date"]:
        values["date"] = stamp["date"]
    values["time"] = stamp["time"].replace(",", ".")


def _read_ray(head: str, values: dict[str, Value]) -> int:
    """Read ``(Name pid=1, ip=10.0.0.7)``."""
    word = head.rfind("pid=")
    opening = head.rfind("(", 0, max(word, 0))
    found = _RAY.match(head, word) if opening >= 0 else None
    if found is None:
        return len(head)
    values["ray_pid"] = int(found[1])
    if found[2]:
        values["ray_ip"] = found[2]
    return opening
