"""A Hugging Face checkpoint folder: its config, and its tensors read one by one straight into their place.

Knows names, shapes and storage; which tensors a model needs, and where they go, is the model's business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.config import BlockFp8, ModelConfig
from hisparse_engine.models.hf_config import read_config
from hisparse_engine.models.quantization import dequantise_into, scale_shape
from hisparse_engine.models.shards import Shard, ShardMap, open_shards

_FLOATS = ("F32", "BF16", "F16")
_FP8 = "F8_E4M3"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


class Checkpoint:
    """An open checkpoint; every file that its tensors need is there, whole and mapped."""

    def __init__(self, folder: Path, config: ModelConfig, found: ShardMap) -> None:
        self.folder = folder
        self.config = config
        self._source = found.source
        self._shards: Mapping[str, Shard] = found.shards

    @classmethod
    @contextmanager
    def open(cls, folder: Path | str) -> Iterator[Checkpoint]:
        """Open ``folder`` for the length of a ``with``; ``CheckpointError`` for anything in it that cannot be used."""
        folder = Path(folder)
        config = read_config(folder)
        found = open_shards(folder, lambda name: not _is_prediction_layer(name, config))
        checkpoint = cls(folder, config, found)
        del found
        try:
            yield checkpoint
        finally:
            checkpoint._shards = {}  # the last references: the files are unmapped

    @property
    def names(self) -> frozenset[str]:
        """Names that ``load`` takes: no prediction-layer tensors, and no scales (they load with their weight)."""
        return frozenset(name for name in self._shards if not self._is_scale(name))

    def has(self, name: str) -> bool:
        """Whether ``load(name, ...)`` has something to read."""
        return name in self._shards

    def unused(self, loaded: Collection[str]) -> list[str]:
        """Names that nobody asked for, sorted: a reason for a warning."""
        return sorted(self.names.difference(loaded))

    def load(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Read one tensor, dequantised if it is stored as block-scaled fp8, into new memory or into ``out``.

        ``out`` ([*shape], may be a view such as one expert's slice of a stacked parameter) keeps its own dtype and
        device. ``CheckpointError`` when the tensor is missing or stored with another shape or dtype.
        """
        stored = self._view(name, shape)
        if out is None:
            out = torch.empty(shape, dtype=dtype, device=device)
        assert tuple(out.shape) == tuple(shape), f"{name}: out has shape {tuple(out.shape)}, expected {shape}"
        with torch.no_grad():
            if stored.dtype == torch.float8_e4m3fn:
                dequantise_into(out, stored, self._scales(name, stored), self._block_shape)
            else:
                out.copy_(stored)
        return out

    @property
    def _block_shape(self) -> tuple[int, int]:
        return (self.config.quantization or BlockFp8()).block_shape

    def _is_scale(self, name: str) -> bool:
        return name.endswith(".weight_scale_inv") and name.removesuffix("_scale_inv") in self._shards

    def _view(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name not in self._shards:
            raise CheckpointError(
                f"{self._source}: tensor {name!r} is missing; use a complete checkpoint of this architecture"
            )
        self._check(name, "shape", self._shards[name].shape(name), tuple(shape))
        scaled = f"{name}_scale_inv" in self._shards and len(shape) == 2
        stored = self._shards[name].dtype(name)
        if stored not in ((_FP8,) if scaled else _FLOATS):
            expected = (
                f"{_FP8} beside a weight_scale_inv"
                if scaled
                else f"{'/'.join(_FLOATS)}, or {_FP8} with scales"
            )
            raise self._mismatch(name, "dtype", stored, expected)
        return self._shards[name].view(name)

    def _scales(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        scales = f"{name}_scale_inv"
        expected = scale_shape((weight.shape[0], weight.shape[1]), self._block_shape)
        self._check(scales, "shape", self._shards[scales].shape(scales), expected)
        return self._shards[scales].view(scales)

    def _check(self, name: str, what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if got != expected:
            raise self._mismatch(name, what, str(list(got)), str(list(expected)))

    def _mismatch(self, name: str, what: str, got: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self._shards[name].path}: tensor {name!r}: got {what} {got}, expected {expected}; "
            "use the config.json and the weights of one release"
        )


def _is_prediction_layer(name: str, config: ModelConfig) -> bool:
    match = _LAYER.match(name)
    return match is not None and int(match.group(1)) >= config.num_hidden_layers
