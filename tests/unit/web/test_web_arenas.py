from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.unit.sidecar.process import environment

PROGRAM = """
import ctypes, re, sys, threading
from hisparse_metrics.web.arenas import use_one_arena

if sys.argv[1] == "one":
    assert use_one_arena()
allocate = ctypes.CDLL(None).malloc
barrier = threading.Barrier(6)

def work():
    allocate(5000)
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sizes = [int(b, 16) - int(a, 16) for a, b in re.findall("^(\\\\w+)-(\\\\w+) ---p", open("/proc/self/maps").read(), re.M)]
print(sum(60 << 20 < size < 65 << 20 for size in sizes))  # Reserved for the heap of a thread.
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no arenas")
@pytest.mark.parametrize(("mode", "has_heaps"), [("default", True), ("one", False)])
def test_threads_share_one_heap(mode: str, has_heaps: bool) -> None:
    variables = environment()
    variables.pop("MALLOC_ARENA_MAX", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], env=variables, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) > 0) == has_heaps
