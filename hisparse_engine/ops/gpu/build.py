"""Builds the CUDA sources beside it into one shared library with a C interface, once for each source, compiler and GPU.

The library is kept in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``, then ``hisparse/``) and appears
there whole or not at all. A missing or failing compiler is a :class:`KernelBuildError`, so that an engine can fall
back to the reference.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hisparse_engine.errors import HiSparseError

SOURCES = Path(__file__).parent
TOOLKITS = Path("/usr/local")
"""Where CUDA toolkits are installed: ``cuda*/``."""
FLAGS = ("-O3", "-std=c++17", "--shared", "-Xcompiler", "-fPIC")

_log = logging.getLogger(__name__)


class KernelBuildError(HiSparseError):
    """The CUDA kernels cannot be built or loaded on this machine."""


def load(name: str, architecture: str) -> ctypes.CDLL:
    """Return the library made of ``name``.cu for ``architecture`` (``90a`` is a Hopper GPU), built when it is not cached.

    Raises :class:`KernelBuildError` without a working compiler or cache folder.
    """
    compiler = find_compiler()
    flags = [*FLAGS, f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    library = _cache_folder() / f"{name}-{_key(name, compiler, flags)}.so"
    if not library.exists():
        _build(SOURCES / f"{name}.cu", compiler, flags, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise KernelBuildError(
            f"the built kernels cannot be loaded: {error}; delete {library} to have them built again"
        ) from error


def find_compiler() -> Path:
    """Return nvcc from ``$CUDA_HOME/bin``, the PATH, or /usr/local/cuda*/bin, in this order."""
    for candidate in _candidates():
        if os.access(candidate, os.X_OK):
            return candidate
    raise KernelBuildError(
        "the CUDA compiler nvcc is not in $CUDA_HOME/bin, on the PATH or in /usr/local/cuda*/bin; install the CUDA "
        "toolkit that fits the driver, or set CUDA_HOME to it"
    )


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("CUDA_HOME"):
        yield Path(home) / "bin" / "nvcc"
    if found := shutil.which("nvcc"):
        yield Path(found)
    yield from sorted(TOOLKITS.glob("cuda*/bin/nvcc"), reverse=True)


def _key(name: str, compiler: Path, flags: list[str]) -> str:
    """Return a digest of all that the library depends on: its sources, the compiler's version and the flags."""
    digest = hashlib.sha256()
    for source in [SOURCES / f"{name}.cu", *sorted(SOURCES.glob("*.cuh"))]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    digest.update(_run([str(compiler), "--version"]).encode())
    digest.update("\0".join(flags).encode())
    return digest.hexdigest()[:20]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "hisparse"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KernelBuildError(
            f"the cache folder {folder} cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from error
    if folder.stat().st_uid != os.getuid():
        raise KernelBuildError(
            f"the cache folder {folder} belongs to somebody else; set XDG_CACHE_HOME to a folder of yours"
        )
    return folder


def _build(source: Path, compiler: Path, flags: list[str], library: Path) -> None:
    _log.info("compiling %s with %s", source.name, compiler)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            built = Path(scratch) / library.name
            _run([str(compiler), *flags, "-o", str(built), str(source)])
            built.rename(library)  # atomic: who builds at the same time builds the same
    except OSError as error:
        raise KernelBuildError(
            f"the kernels cannot be written to {library.parent}: {error.strerror}; make room there or set XDG_CACHE_HOME"
        ) from error
    _log.info("compiled %s in %.1f s: %s", source.name, time.perf_counter() - started, library)


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    except OSError as error:
        raise KernelBuildError(
            f"{command[0]} does not run: {error.strerror}; check the CUDA toolkit"
        ) from error
    except subprocess.CalledProcessError as error:
        why = (error.stderr or error.stdout).strip() or f"exit status {error.returncode}"
        raise KernelBuildError(
            f"{command[0]} failed: {why[-2000:]}; check that the CUDA toolkit fits this GPU and its host compiler"
        ) from error
