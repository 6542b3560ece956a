"""Weights that no checkpoint holds: scaled normal values from a seed, made on the device. For benchmarks and tests."""

from __future__ import annotations

import zlib

import torch


class RandomWeights:
    """A ``WeightSource`` whose every tensor exists; a name and a seed always give the same values.

    Values are as a bf16 checkpoint would hold them, whatever dtype they are read in. Matrices keep the size of what
    they multiply, norms are near one and biases near zero.
    """

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device, prefix: str = "") -> None:
        self.dtype = dtype
        self.device = device
        self._seed = seed
        self._prefix = prefix

    def at(self, prefix: str) -> RandomWeights:
        """Return the place ``prefix`` further down the name tree."""
        return RandomWeights(self._seed, self.dtype, self.device, f"{self._prefix}{prefix}.")

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Make one tensor."""
        out = torch.empty(shape, dtype=dtype or self.dtype, device=self.device)
        self.read_into(out, name)
        return out

    def read_optional(self, name: str, *shape: int, wanted: bool) -> torch.Tensor | None:
        """Make one tensor when the configuration says that it exists."""
        return self.read(name, *shape) if wanted else None

    def read_into(self, out: torch.Tensor, name: str) -> None:
        """Fill ``out``."""
        full = self._prefix + name
        generator = torch.Generator(out.device).manual_seed(self._seed ^ zlib.crc32(full.encode()))
        mean, deviation = _distribution(full, out.shape)
        values = torch.empty(out.shape, dtype=torch.bfloat16, device=out.device)
        out.copy_(values.normal_(mean, deviation, generator=generator))

    def empty(self, *shape: int) -> torch.Tensor:
        """Return memory for a stacked parameter that ``read_into`` fills."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)


def _distribution(name: str, shape: torch.Size) -> tuple[float, float]:
    """Mean and standard deviation."""
    if name.endswith("bias"):
        return 0.0, 0.02
    if len(shape) == 1:
        return 1.0, 0.1
    if name.endswith("embed_tokens.weight"):
        return 0.0, 1.0
    return 0.0, float(shape[-1] ** -0.5)
