"""Building the kernels: a compiler is found or missed, built once, and every failure says what to do."""

from __future__ import annotations

import _ctypes
import logging
import stat
from pathlib import Path

import pytest

from hisparse_engine.errors import HiSparseError
from hisparse_engine.ops.gpu import build
from hisparse_engine.ops.gpu.build import KernelBuildError

LOADABLE = _ctypes.__file__


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CUDA toolkit anywhere, an empty cache, and the programs that a fake compiler needs."""
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "TOOLKITS", tmp_path / "toolkits")


def fake_compiler(folder: Path, does: str, version: str = "13.0") -> Path:
    """Write an nvcc that tells a version, and else notes that it ran and ``does`` something with ``$out``."""
    compiler = folder / "bin" / "nvcc"
    compiler.parent.mkdir(parents=True, exist_ok=True)
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo {version} && exit 0\necho run >> {folder}/runs\n'
        f'while [ "$1" != -o ]; do shift; done; out=$2\n{does}\n'
    )
    compiler.chmod(0o755)
    return compiler


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_without_a_compiler_the_remedy_is_named() -> None:
    with pytest.raises(KernelBuildError, match=r"nvcc is not in .* set CUDA_HOME"):
        build.load("swap_in", "90a")
    assert issubclass(KernelBuildError, HiSparseError)


@pytest.mark.parametrize("place", ["CUDA_HOME", "PATH", "toolkits"])
def test_the_compiler_is_looked_for_where_it_is(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toolkits" / "cuda-13.0" if place == "toolkits" else tmp_path / "elsewhere"
    compiler = fake_compiler(folder, "exit 1")
    if place == "CUDA_HOME":
        monkeypatch.setenv("CUDA_HOME", str(folder))
    elif place == "PATH":
        monkeypatch.setenv("PATH", str(folder / "bin"))
    assert build.find_compiler() == compiler


def test_a_failing_compiler_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compiler(tmp_path, "echo unsupported host compiler >&2; exit 2")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(KernelBuildError, match="unsupported host compiler"):
        build.load("swap_in", "90a")
    assert list((tmp_path / "cache" / "hisparse").iterdir()) == []


def test_it_is_built_once_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_compiler(tmp_path, f'cp "{LOADABLE}" "$out"')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with caplog.at_level(logging.INFO):
        build.load("swap_in", "90a")
        build.load("swap_in", "90a")
    assert runs(tmp_path) == 1
    cache = tmp_path / "cache" / "hisparse"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (library,) = cache.iterdir()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["compiling", "compiled"]
    assert str(library) in caplog.text


def test_another_compiler_source_or_gpu_builds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    does = f'cp "{LOADABLE}" "$out"'
    fake_compiler(tmp_path, does)
    build.load("swap_in", "90a")
    build.load("swap_in", "100a")
    fake_compiler(tmp_path, does, version="13.1")
    build.load("swap_in", "90a")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "swap_in.cu").write_text("another")
    monkeypatch.setattr(build, "SOURCES", sources)
    build.load("swap_in", "90a")
    assert runs(tmp_path) == 4


def test_what_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compiler(tmp_path, 'echo nothing > "$out"')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(KernelBuildError, match=r"cannot be loaded.*delete .*\.so"):
        build.load("swap_in", "90a")


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compiler(tmp_path, "exit 1")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(KernelBuildError, match="set XDG_CACHE_HOME"):
        build.load("swap_in", "90a")
