"""What collectors put around a line, and how to take it off: one small opener per envelope.

An opener is given a line that begins in a way that it may know, and returns the line inside, or ``None``. Envelopes
nest (a Ray line in a container's log), to a bounded depth. Text before a record does no harm later, so an opener here
exists where the envelope hides the line (JSON), cuts it (CRI, Docker), or tells who wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

MAX_DEPTH = 4
_MAX_JSON = 1 << 18
_STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]{8,20}(?:Z|[+-][0-9:]{4,6})"
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*+[ -/]*+[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])", re.ASCII)
_CRI = re.compile(rf"{_STAMP} (stdout|stderr) ([FP])(?::[^ ]{{1,64}})? ?", re.ASCII)
_STAMPED = re.compile(rf"{_STAMP} ", re.ASCII)
_KUBECTL = re.compile(r"\[(pod/[^\]\s]{1,512})\] ", re.ASCII)
_COMPOSE = re.compile(r"([A-Za-z0-9][\w.-]{0,127}) {0,64}\| ", re.ASCII)
_STERN = re.compile(
    r"([a-z0-9][a-z0-9.-]{0,252}) (?:› )?([a-z0-9][a-z0-9-]{0,62}) (?=[\[{(]|[0-9]{4}-)", re.ASCII
)
_UNIT = r"[^\s:\[]{1,128}(?:\[[0-9]{1,10}\])?: "
_JOURNAL = re.compile(
    rf"(?:[A-Z][a-z]{{2}} [ 0-9][0-9] [0-9:.]{{8,15}}|{_STAMP}) [^\s]{{1,255}} {_UNIT}", re.ASCII
)
_DOCKER_KEYS = frozenset({"log", "stream", "time", "attrs"})


class Opened(NamedTuple):
    """The line inside. ``is_cut``: the rest of it is in the next line of the same ``stream`` and ``origin``."""

    text: str
    origin: str = ""
    stream: str = ""
    is_cut: bool = False


def without_colours(text: str) -> str:
    """Take terminal escapes out."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def open_envelope(text: str) -> Opened | None:
    """Take the outermost envelope off, or return ``None`` when there is none."""
    for opener in _OPENERS.get(text[:1], _NAMED if text[:1].isalnum() else ()):
        if opened := opener(text):
            return opened
    return None


def _open_cri(text: str) -> Opened | None:
    found = _CRI.match(text)
    return Opened(text[found.end() :], "", found[1], found[2] == "P") if found else None


def _open_pattern(pattern: re.Pattern[str]) -> Callable[[str], Opened | None]:
    def opener(text: str) -> Opened | None:
        found = pattern.match(text)
        return Opened(text[found.end() :], "/".join(found.groups())) if found else None

    return opener


def _open_filling(text: str) -> Opened | None:
    """Drop a byte order mark, and the hole that a truncated file begins with."""
    return Opened(text.lstrip("\ufeff\0"))


def _open_json(text: str) -> Opened | None:
    """Open Docker's ``log``, the journal's ``MESSAGE`` and other collectors' ``message``."""
    try:
        entry = json.loads(text) if len(text) <= _MAX_JSON else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    line = next((entry[key] for key in ("log", "MESSAGE", "message") if key in entry), None)
    if isinstance(line, list):
        line = _from_bytes(line)
    if not isinstance(line, str):
        return None
    is_cut = "log" in entry and entry.keys() <= _DOCKER_KEYS and not line.endswith("\n")
    return Opened(line.rstrip("\r\n"), "", str(entry.get("stream", ""))[:16], is_cut)


def _from_bytes(numbers: list[object]) -> str | None:
    """Decode what the journal writes for a line that is not plain text: a list of bytes."""
    small = [number for number in numbers if isinstance(number, int) and 0 <= number <= 255]
    return bytes(small).decode("utf-8", "replace") if len(small) == len(numbers) else None


_NAMED = (
    _open_cri,
    _open_pattern(_COMPOSE),
    _open_pattern(_JOURNAL),
    _open_pattern(_STAMPED),
    _open_pattern(_STERN),
)
_OPENERS: dict[str, tuple[Callable[[str], Opened | None], ...]] = {
    "{": (_open_json,),
    "[": (_open_pattern(_KUBECTL),),
    "\ufeff": (_open_filling,),
    "\0": (_open_filling,),
}
