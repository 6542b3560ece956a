"""Rotary position embedding, plain and YaRN (arXiv:2309.00071), for interleaved and half-split layouts."""

from __future__ import annotations

import math

import torch

from hisparse_engine.models.config import RopeConfig

Angles = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, each fp32 ``[tokens, dim / 2]``."""


class RotaryEmbedding:
    """Angles for ``dim`` rotary dimensions; tables grow with the longest position asked for."""

    def __init__(self, config: RopeConfig, dim: int, device: torch.device) -> None:
        self._inverse_frequencies = _inverse_frequencies(config, dim).to(device)
        self._scale = config.cos_sin_scale

    def __call__(self, positions: torch.Tensor) -> Angles:
        """Return (cos, sin) for int64 ``positions [tokens]``."""
        angles = positions.unsqueeze(1).float() * self._inverse_frequencies
        return angles.cos().mul_(self._scale), angles.sin().mul_(self._scale)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, interleaved: bool) -> torch.Tensor:
    """Rotate ``x [tokens, heads, dim]`` by ``cos, sin [tokens, dim / 2]``.

    Pairs are (2i, 2i + 1) when ``interleaved``, else (i, i + dim / 2). The result lists all first elements, then all
    second ones: dot products do not mind, as long as queries and keys agree.
    """
    half = x.shape[-1] // 2
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    cos, sin = cos.to(x.dtype).unsqueeze(1), sin.to(x.dtype).unsqueeze(1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _inverse_frequencies(config: RopeConfig, dim: int) -> torch.Tensor:
    frequencies = config.theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if config.type == "default":
        return 1.0 / frequencies
    extrapolated = _ramp_down(config, dim)
    interpolated = 1.0 / (config.factor * frequencies)
    return interpolated * (1 - extrapolated) + 1.0 / frequencies * extrapolated


def _ramp_down(config: RopeConfig, dim: int) -> torch.Tensor:
    """1 for dimensions that turn often within the original context, 0 for those that hardly turn."""
    low, high = _correction_dim(config, dim, config.beta_fast), _correction_dim(config, dim, config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = high - low if high != low else 0.001
    return 1 - ((torch.arange(dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)


def _correction_dim(config: RopeConfig, dim: int, rotations: float) -> float:
    """Return the dimension that turns ``rotations`` times over the original context."""
    context = config.original_max_position_embeddings
    return dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(config.theta))
