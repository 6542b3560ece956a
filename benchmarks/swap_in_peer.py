"""What SGLang 0.5.23's swap-in kernel takes for the same workload, recorded on an H200 on 2026-11-22.

Its own kernel, in CUDA graphs, median of many distinct calls, µs; where it was run with 960 threads (its default) and
1024, the better of the two. Pools of random 64-token pages up to 6 GB; "production-like" takes another layer's pool every
call (up to 24 GB) and flushes L2 between.
"""

from __future__ import annotations

MISSES = (0, 16, 64, 256, 1024)

_Table = dict[int, tuple[float | None, ...]]

WARM: dict[int, _Table] = {
    656: {
        1: (11.4, 17.6, 22.6, 40.4, 113),
        8: (12.4, 20.0, 24.7, 48.8, 155),
        32: (13.6, 23.9, 45.5, 134, 506),
        64: (14.1, 31.3, 78.1, 265, 1012),
        128: (15.0, 47.1, 147, 521, 2034),
        256: (18.7, 119, 419, 1605, 6177),
    },
    1152: {
        1: (14.1, 19.8, 25.6, 46.1, 129),
        32: (16.3, 30.0, 67.5, 215, 845),
        128: (17.5, 69.0, 230, 815, 3209),
    },
}
"""By row bytes and batch; 1152-byte rows were run with 960 threads only."""

PRODUCTION: dict[bool, _Table] = {
    False: {
        1: (17.9, 23.6, 31.9, 56.2, 138),
        8: (20.6, 26.6, 37.4, 69.1, 182),
        32: (22.0, 36.4, 76.8, 189, None),
        64: (21.3, 55.5, 148, 410, 1224),
        128: (23.4, 93, 287, 876, None),
        256: (25.8, 170, 572, 1873, 6380),
    },
    True: {
        32: (None, 35, 72, 182, None),
        64: (None, 50, 135, 366, 1181),
        128: (None, 87, 278, 812, None),
        256: (None, 156, 542, 1658, 4941),
    },
}
"""656-byte rows with 960 threads, by whether each request's rows are contiguous in host memory, and batch."""


def recorded(
    batch: int, misses: int, row_bytes: int, buffer: int, production: bool, contiguous: bool
) -> float | None:
    """Return the peer's µs for one cell; None where it was not run."""
    if (
        buffer != 4096
        or misses not in MISSES
        or (production and row_bytes != 656)
        or (contiguous and not production)
    ):
        return None
    table = PRODUCTION[contiguous] if production else WARM.get(row_bytes, {})
    row = table.get(batch)
    return None if row is None else row[MISSES.index(misses)]
