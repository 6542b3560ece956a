"""Metric families as bytes, in the two formats there are; the same bytes as the client library's, in less than half the time.

What makes it quicker: an engine's labels are escaped and joined once, not for each of its samples. Whatever is out of
the ordinary (exemplars, timestamps, names outside the classic alphabet) goes through the client library itself.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_PLAIN_TYPES = frozenset({"counter", "gauge", "histogram", "info", "unknown"})
_PLAIN_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_MOVED_SUFFIXES = ("_created", "_gsum", "_gcount")
_Items = tuple[tuple[str, str], ...]
_to_go: Callable[[float], str] = floatToGoString
_GZIP_LEVEL = 1
_GZIP_WBITS = 31  # a gzip header and trailer around the largest window
_END = "# EOF\n"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Format(Enum):
    """An exposition format; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"


_CLIENT_ENCODERS: dict[Format, Callable[[Collector], bytes]] = {
    Format.TEXT: generate_latest,
    Format.OPENMETRICS: generate_openmetrics,
}


def choose_format(accept: str) -> Format:
    """Return the format that an Accept header asks for; the client's wishes beyond that change nothing here."""
    _, content_type = choose_encoder(_tame(accept))
    return Format.OPENMETRICS if content_type.startswith("application/openmetrics-text") else Format.TEXT


def render(collector: Collector, form: Format) -> bytes:
    """Return what ``collector`` has now."""
    return b"".join(_parts(collector, form))


def render_gzip(collector: Collector, form: Format) -> bytes:
    """Return what ``collector`` has now, packed family by family: the whole text is never in memory."""
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
    parts = [packer.compress(part) for part in _parts(collector, form)]
    return b"".join([*parts, packer.flush()])


def _parts(collector: Collector, form: Format) -> Iterator[bytes]:
    labels = _Labels()
    for family in collector.collect():
        yield _render_family(family, form, labels).encode()
    if form is Format.OPENMETRICS:
        yield _END.encode()


class _UnusualError(Exception):
    """Something that only the client library knows how to write."""


class _Labels:
    """Label sets as they are written, each joined once. A bucket's own label, ``le``, is put in afterwards."""

    def __init__(self) -> None:
        self._joined: dict[_Items, str] = {}
        self._around_bound: dict[_Items, tuple[str, str]] = {}
        self._bounds: dict[str, str] = {}

    def of(self, labels: dict[str, str]) -> str:
        items = tuple(labels.items())
        if items and items[-1][0] == "le":
            before, after = self._around(items[:-1])
            return f"{before}{self._bound(items[-1][1])}{after}"
        joined = self._joined.get(items)
        if joined is None:
            pairs = ",".join(_pairs(items))
            joined = self._joined[items] = f"{{{pairs}}}" if pairs else ""
        return joined

    def _around(self, items: _Items) -> tuple[str, str]:
        around = self._around_bound.get(items)
        if around is None:
            before = "".join(f"{pair}," for pair in _pairs(item for item in items if item[0] < "le"))
            after = "".join(f",{pair}" for pair in _pairs(item for item in items if item[0] > "le"))
            around = self._around_bound[items] = f'{{{before}le="', f'"{after}}}'
        return around

    def _bound(self, text: str) -> str:
        escaped = self._bounds.get(text)
        if escaped is None:
            escaped = self._bounds[text] = text.translate(_ESCAPES)
        return escaped


def _pairs(items: Iterable[tuple[str, str]]) -> list[str]:
    found = sorted(items)
    if not all(_PLAIN_NAME.fullmatch(name) for name, _ in found):
        raise _UnusualError
    return [f'{name}="{value.translate(_ESCAPES)}"' for name, value in found]


def _render_family(family: Family, form: Format, labels: _Labels) -> str:
    if family.type in _PLAIN_TYPES:
        try:
            lines = list(_sample_lines(family, labels))
        except _UnusualError:
            return _by_client(family, form)
        bare = copy.copy(family)
        bare.samples = []
        return _by_client(bare, form) + "".join(lines)
    return _by_client(family, form)


def _sample_lines(family: Family, labels: _Labels) -> Iterator[str]:
    names = {sample.name for sample in family.samples}
    if not all(_PLAIN_NAME.fullmatch(name) and not name.endswith(_MOVED_SUFFIXES) for name in names):
        raise _UnusualError
    for name, tags, value, timestamp, exemplar, *others in family.samples:
        if timestamp is not None or exemplar or any(others):
            raise _UnusualError
        yield f"{name}{labels.of(tags)} {_number(value)}\n"


def _number(value: float) -> str:
    return _to_go(value) if value else repr(float(value))


def _by_client(family: Family, form: Format) -> str:
    return _CLIENT_ENCODERS[form](_Only(family)).decode().removesuffix(_END)


class _Only(Collector):
    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family


def _tame(accept: str) -> str:
    """Keep the media types of an Accept header whose version the client library can compare."""
    return ",".join(part for part in accept.split(",") if _comparable_version(part))


def _comparable_version(media_type: str) -> bool:
    parameters = [parameter.strip().partition("=") for parameter in media_type.split(";")]
    versions = [value for key, _, value in parameters if key == "version"]
    return all(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}", value) for value in versions)
