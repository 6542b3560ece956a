"""The page's files: read once, served under a path that changes with their content, so that browsers may keep them."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable

from hisparse_metrics.live import vocabulary

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
"""What is served, by suffix; licences and notes lie beside the files and are not."""

TEMPLATE = "index.html"


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content_type: str
    body: bytes

    @cached_property
    def packed(self) -> bytes:
        """The body, compressed."""
        return gzip.compress(self.body, mtime=0)


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by path under ``live/VERSION/``, and the page itself, which names them."""

    version: str
    template: str
    files: dict[str, Asset]


@cache
def load_assets() -> Assets:
    """Read the files that came with this package."""
    folder = resources.files("hisparse_metrics.live").joinpath("static")
    files = dict(_walk(folder, ""))
    files[vocabulary.FILE] = _asset(vocabulary.FILE, vocabulary.vocabulary_bytes())
    template = folder.joinpath(TEMPLATE).read_text(encoding="utf-8")
    digest = hashlib.sha256(template.encode())
    for path, asset in sorted(files.items()):
        digest.update(f"\n{path} {len(asset.body)}\n".encode() + asset.body)
    return Assets(digest.hexdigest()[:16], template, files)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        elif _suffix(path) in _TYPES:
            found.append((path, _asset(path, entry.read_bytes())))
    return found


def _asset(path: str, body: bytes) -> Asset:
    return Asset(_TYPES[_suffix(path)], body)


def _suffix(path: str) -> str:
    return "." + path.rpartition(".")[2]
