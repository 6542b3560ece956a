"""What racecheck says of a kernel that cannot race: one warp group hands a tile to another through an mbarrier.

    compute-sanitizer --tool racecheck python -m tests.gpu.racecheck_control

The attention kernels for Hopper hand over so: all threads of a warp group store, meet at a barrier of their group, and
one of them arrives at the mbarrier for all, which is a release of what happened before (PTX memory model: release is
cumulative over the group's barrier). Each tile here is used once, so no reuse can be at fault, and the result is
compared. If racecheck reports this kernel, then it sees only the arriving thread's own stores, and what it reports of
such a hand-over elsewhere says nothing. Needs Triton 3.6, as those kernels do.
"""

from __future__ import annotations

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

TILES, SIZE = 4, 1024
_LAYOUT = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
_TURNED = gl.constexpr(gl.BlockedLayout([8], [32], [4], [0]))


@gluon.jit
def _give(source, tile, given, TILES, SIZE):
    at = gl.arange(0, SIZE, _LAYOUT)
    for i in gl.static_range(TILES):
        tile.index(i).store(gl.load(source + i * SIZE + at) + 1)
        gl.thread_barrier()
        mbarrier.arrive(given.index(i))


@gluon.jit
def _take(target, tile, given, TILES, SIZE):
    at = gl.arange(0, SIZE, _TURNED)
    for i in gl.static_range(TILES):
        mbarrier.wait(given.index(i), 0)
        gl.store(target + i * SIZE + at, tile.index(i).load(_TURNED))


@gluon.jit
def hand_over(source, target, TILES: gl.constexpr, SIZE: gl.constexpr):
    """Copy ``source`` plus one to ``target``, through shared memory that each tile has to itself."""
    tile = gl.allocate_shared_memory(gl.float32, [TILES, SIZE], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    given = gl.allocate_shared_memory(gl.int64, [TILES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(TILES):
        mbarrier.init(given.index(i), count=1)
    gl.warp_specialize(
        [
            (_give, (source, tile, given, TILES, SIZE)),
            (_take, (target, tile, given, TILES, SIZE)),
        ],
        [4],
        [64],
    )


def main() -> None:
    source = torch.randn(TILES * SIZE, device="cuda")
    target = torch.zeros_like(source)
    hand_over[(1,)](source, target, TILES, SIZE, num_warps=4)
    print({"right": bool(torch.equal(target, source + 1))})


if __name__ == "__main__":
    main()
