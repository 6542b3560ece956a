"""Takes tensors out of a checkpoint by name, in the dtype and on the device that the model runs with."""

from __future__ import annotations

from typing import Protocol

import torch

from hisparse_engine.models.checkpoint import Checkpoint


class WeightSource(Protocol):
    """What a model is built from: a place in a tree of named tensors, all in one dtype and on one device."""

    dtype: torch.dtype
    device: torch.device

    def at(self, prefix: str) -> WeightSource:
        """Return the place ``prefix`` further down the name tree."""

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor of this shape, in ``dtype`` where one is given."""

    def read_optional(self, name: str, *shape: int, wanted: bool) -> torch.Tensor | None:
        """Return one tensor when the configuration says that it exists."""

    def read_into(self, out: torch.Tensor, name: str) -> None:
        """Write one tensor to ``out``, such as one expert's part of a stacked parameter."""

    def empty(self, *shape: int) -> torch.Tensor:
        """Return memory for a stacked parameter that ``read_into`` fills."""


class WeightReader:
    """A place in a checkpoint (a name prefix); remembers what was read, so that leftovers can be reported."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: torch.dtype,
        device: torch.device,
        prefix: str = "",
        loaded: set[str] | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self._prefix = prefix
        self.loaded: set[str] = set() if loaded is None else loaded

    def at(self, prefix: str) -> WeightReader:
        """Return a reader further down the name tree."""
        return WeightReader(self.checkpoint, self.dtype, self.device, f"{self._prefix}{prefix}.", self.loaded)

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Read one tensor; its shape must be ``shape``."""
        full = self._note(name)
        return self.checkpoint.load(full, shape, dtype or self.dtype, self.device)

    def read_optional(self, name: str, *shape: int, wanted: bool) -> torch.Tensor | None:
        """Read one tensor when the configuration says that it exists."""
        return self.read(name, *shape) if wanted else None

    def read_into(self, out: torch.Tensor, name: str) -> None:
        """Read one tensor straight into ``out`` (such as one expert's part of a stacked parameter)."""
        self.checkpoint.load(self._note(name), tuple(out.shape), out.dtype, self.device, out=out)

    def empty(self, *shape: int) -> torch.Tensor:
        """Return memory for a stacked parameter that ``read_into`` fills."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _note(self, name: str) -> str:
        full = self._prefix + name
        self.loaded.add(full)
        return full
