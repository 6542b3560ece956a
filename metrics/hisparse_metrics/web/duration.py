"""Durations as Go and Prometheus write them: ``1s``, ``500ms``, ``1m30s``."""

from __future__ import annotations

import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Return seconds, or ``None`` when ``text`` is no duration. ``0`` needs no unit."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
