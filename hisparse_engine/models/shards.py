"""The safetensors files of a checkpoint: which file holds which tensor, opened as read-only memory maps.

Pickled weights (``*.bin``, ``*.pt``) are never opened: reading them can run code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError, safe_open

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.hf_config import read_json_object
from hisparse_engine.models.safetensors_headers import INDEX_FILE, SINGLE_FILE

_LFS_POINTER = b"version https://git-lfs"


class _Header(Protocol):
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...


class _Mapped(Protocol):
    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _Header: ...
    def get_tensor(self, name: str) -> torch.Tensor: ...


class Shard:
    """One open safetensors file; ``CheckpointError`` when it is missing, unreadable, cut short or something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped = _open(path)
        self.names = frozenset(self._mapped.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return tuple(self._mapped.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Dtype of a tensor in safetensors' words, such as ``BF16``."""
        return self._mapped.get_slice(name).get_dtype()

    def view(self, name: str) -> torch.Tensor:
        """View a tensor in the mapped file, on the CPU: pages are read when touched, and nothing is copied."""
        return self._mapped.get_tensor(name)


@dataclass(frozen=True)
class ShardMap:
    """The open file of every wanted tensor, by name; ``source`` is the file that says which tensors there are."""

    source: Path
    shards: Mapping[str, Shard]


def open_shards(folder: Path, wanted: Callable[[str], bool]) -> ShardMap:
    """Open the files that hold the tensors ``wanted`` names, each once; ``CheckpointError`` for any damage to them."""
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.exists():
        shard = Shard(single)
        return ShardMap(single, {name: shard for name in shard.names if wanted(name)})
    if index.exists():
        places = {name: path for name, path in _indexed_files(index).items() if wanted(name)}
        return ShardMap(index, _open_indexed(places, index))
    raise CheckpointError(
        f"{folder}: found neither {SINGLE_FILE} nor {INDEX_FILE}; give a folder with safetensors weights "
        "(pickled *.bin weights are not read: convert them with save_pretrained)"
    )


def _open_indexed(places: Mapping[str, Path], index: Path) -> dict[str, Shard]:
    opened = {path: Shard(path) for path in sorted(set(places.values()))}
    for name, path in places.items():
        if name not in opened[path].names:
            raise CheckpointError(
                f"{path}: tensor {name!r} is missing, though {index.name} places it here; download both again"
            )
    return {name: opened[path] for name, path in places.items()}


def _indexed_files(index: Path) -> dict[str, Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{index}: key 'weight_map': expected an object of tensor and file names; download it again"
        )
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(
                f"{index}: tensor {name!r}: got file {file!r}, expected a file name in the same folder"
            )
    return {name: index.parent / file for name, file in weight_map.items()}


def _open(path: Path) -> _Mapped:
    try:
        return cast(_Mapped, safe_open(path, framework="pt", device="cpu"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; download the missing part of the checkpoint") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: {_damage(path, error)}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); check that it is a readable file") from None


def _damage(path: Path, error: SafetensorError) -> str:
    actual = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            return "a git-lfs pointer, not the weights; run 'git lfs pull' in the checkpoint's folder"
        file.seek(8)
        header_bytes = int.from_bytes(start[:8], "little")
        expected = _expected_size(header_bytes, file.read(header_bytes)) if header_bytes <= actual else None
    if expected is None or expected == actual:
        return f"not a valid safetensors file of {actual} bytes ({error}); download it again"
    return f"got {actual} bytes, expected {expected} by its header; the download was cut short or altered: repeat it"


def _expected_size(header_bytes: int, header: bytes) -> int | None:
    """File size that the header announces; ``None`` when the header itself cannot be read."""
    try:
        entries = json.loads(header)
        ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
        return 8 + header_bytes + max(ends)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
