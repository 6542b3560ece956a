"""Which kernel, tiles and shares an ``attend`` on the GPU gets: fixed rules, asked without touching a tensor.

They see shapes, types and the device's size only: the same shapes get the same configuration, and so the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import triton

_MOST_SHARES = 32
_GLUON_VERSION = (
    "3.6."  # of Triton: its Gluon is experimental, and the kernels written in it are for this one
)


@dataclass(frozen=True)
class Tiling:
    """How a launch is cut up."""

    block_heads: int
    block_entries: int
    num_warps: int
    num_stages: int
    """Of Triton's pipeline, where n keep (n - 1) // 2 tiles of rows in flight; the Hopper kernels' buffers."""
    per_processor: int
    """How many programs a multiprocessor runs at once."""
    share_cost: int
    """What starting and finishing a share costs, in tiles."""
    kernel: Literal["portable", "quantised", "hopper", "hopper_few"] = "portable"


class Device(NamedTuple):
    """What the rules know of a device."""

    processors: int
    is_large: bool
    """A block may have 227 KB of shared memory (Hopper, data-centre Blackwell)."""
    is_hopper: bool
    """The Hopper kernels can be compiled and run."""


def choose_tiling(
    heads: int, width: int, latent_dim: int, k: int, dtype: torch.dtype, device: Device
) -> Tiling:
    """Return the tiles for ``heads``: few heads are a matter of bytes in flight, many of the matrix units."""
    if dtype == torch.float32:
        return Tiling(16, 16, 4, 2, 1, 3)
    if dtype == torch.uint8:
        return Tiling(16 if heads <= 32 else 64, 32, 8, 1, 1, 3, "quantised")
    if device.is_hopper and dtype == torch.bfloat16 and (latent_dim, width, k % 64) == (512, 576, 0):
        if heads <= 32:
            return Tiling(16 if heads <= 16 else 32, 64, 4, 2, 1, 2, "hopper_few")
        return Tiling(64, 32, 4, 4, 1, 7, "hopper")
    if heads > 32 and device.is_large:
        return Tiling(64, 64, 8, 3, 1, 3)
    return Tiling(16, 32, 4, 5, 2, 3)


def choose_shares(tokens: int, heads: int, k: int, tiling: Tiling, device: Device) -> int:
    """Return into how many shares each token's slots are cut: the fewest within 5 % of the least time, in tiles."""
    tiles = triton.cdiv(k, tiling.block_entries)
    programs = tokens * triton.cdiv(heads, tiling.block_heads)
    at_once = device.processors * tiling.per_processor

    def cost(shares: int) -> int:
        turns = triton.cdiv(programs * shares, at_once)
        return int(turns * (triton.cdiv(tiles, shares) + tiling.share_cost))

    choices = range(1, min(tiles, _MOST_SHARES) + 1)
    least = min(map(cost, choices))
    return next(shares for shares in choices if 20 * cost(shares) <= 21 * least)


@lru_cache
def describe_device(device: torch.device) -> Device:
    """Return what the rules need; on the CPU, where Triton's interpreter runs, the numbers of nothing in particular."""
    if device.type != "cuda":
        return Device(4, is_large=False, is_hopper=False)
    properties = torch.cuda.get_device_properties(device)
    has_gluon = triton.__version__.startswith(_GLUON_VERSION)
    return Device(
        properties.multi_processor_count,
        is_large=properties.major in (9, 10),
        is_hopper=properties.major == 9 and has_gluon,
    )
