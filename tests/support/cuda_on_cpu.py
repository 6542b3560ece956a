"""Compiles the CUDA kernels with g++ over ``cuda_on_cpu.h``: the same C interface, on CPU memory."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

from hisparse_engine.ops.gpu.build import SOURCES

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")


def build(name: str, folder: Path) -> ctypes.CDLL:
    """Return ``name``.cu as a library of functions that run on the CPU, built in ``folder``."""
    assert COMPILER is not None
    library = folder / f"{name}.so"
    flags = ["-std=c++20", "-O1", "-x", "c++", "-shared", "-fPIC", f"-I{HERE}", "-Wno-unknown-pragmas"]
    command = [COMPILER, *flags, "-o", str(library), str(SOURCES / f"{name}.cu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))
