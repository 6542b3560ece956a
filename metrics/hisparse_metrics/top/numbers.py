"""Figures as people read them, in few characters. A figure that is not known is a dash."""

from __future__ import annotations

UNKNOWN = "-"
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def short(value: float | None) -> str:
    """Return at most five characters: ``950``, ``20.8k``, ``1.23M``."""
    if value is None:
        return UNKNOWN
    for size, suffix in _COUNTS:
        if value >= size * 0.9995:
            return f"{_three_digits(value / size)}{suffix}"
    return f"{value:.0f}"


def full(value: float | None) -> str:
    """Return every digit, grouped."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def percent(ratio: float | None, digits: int = 0) -> str:
    """Return a ratio in percent."""
    return UNKNOWN if ratio is None else f"{100 * ratio:.{digits}f}%"


def throughput(value: float | None) -> str:
    """Return a rate; a tenth matters only where it is small."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if 0 < value < 99.95 else short(value)


def bandwidth(value: float | None) -> str:
    """Return bytes per second in binary units."""
    if value is None:
        return UNKNOWN
    for suffix, size in _BYTES:
        if value >= size * 0.9995:
            return f"{_three_digits(value / size)} {suffix}/s"
    return f"{value:.0f} B/s"


def duration(seconds: float | None) -> str:
    """Return a duration in at most two units: ``0.1s``, ``12s``, ``3m20s``, ``2h05m``, ``4d``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d"


def ahead(seconds: float | None) -> str:
    """Return when something will be: in a :func:`duration`, or ``now``."""
    return "now" if seconds is not None and seconds < 0.05 else duration(seconds)


def small(seconds: float | None) -> str:
    """Return how long a step takes: ``950us``, ``18.2ms``, ``1.20s``."""
    if seconds is None:
        return UNKNOWN
    for suffix, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size * 0.9995:
            return f"{_three_digits(seconds / size)}{suffix}"
    return f"{seconds * 1e6:.0f}us"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
