"""Shapes and dtypes out of the headers of a checkpoint's safetensors files: some kilobytes a file, no weight, no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.hf_config import read_json_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


class Header(NamedTuple):
    """What a file says of one tensor; ``dtype`` in safetensors' words, such as ``BF16``."""

    shape: tuple[int, ...]
    dtype: str


Headers = dict[str, Header]


def has_weights(folder: Path) -> bool:
    """Whether ``folder`` holds weights, whole or not."""
    return (folder / SINGLE_FILE).exists() or (folder / INDEX_FILE).exists()


def read_headers(folder: Path) -> Headers:
    """Return what ``folder`` says of every tensor; :class:`CheckpointError` for a file that is missing or damaged."""
    headers: Headers = {}
    for path in _files(folder):
        headers |= _read_header(path)
    return headers


def _files(folder: Path) -> list[Path]:
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.exists():
        return [single]
    places = read_json_object(index).get("weight_map")
    names = places.values() if isinstance(places, dict) else ()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(
            f"{index}: key 'weight_map': expected an object of tensor and file names; download it again"
        )
    return [folder / name for name in sorted(set(names))]


def _read_header(path: Path) -> Headers:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = file.read(length) if length <= _MAX_HEADER_BYTES else b""
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; download the missing part of the checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    try:
        entries = json.loads(header)
        return {
            name: Header(tuple(entry["shape"]), entry["dtype"])
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: has no safetensors header (a git-lfs pointer, or cut short); download the weights"
        ) from None
