"""What `decode.py` makes of times, kernels and rows: small arithmetic on values made up here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import decode_results
from benchmarks.decode_calibration import Point, read_table, turnover_for
from benchmarks.decode_measure import Counts, measure, percentile
from benchmarks.decode_parts import IDLE, ORDER, OTHER, PARTS, Kernel, part_of, split, unnamed


class FakeEngine:
    """Steps of 10 ms and, every fourth, 30 ms; two tokens and three misses each."""

    def __init__(self) -> None:
        self.now, self.done, self.waited = 0.0, 0, 0

    def step(self) -> int:
        self.done += 1
        self.now += 0.030 if self.done % 4 == 0 else 0.010
        return 2

    def synchronize(self) -> None:
        self.waited += 1

    def counts(self) -> Counts:
        return Counts(10 * self.done, 3 * self.done, 3000 * self.done)


def test_measured_steps_exclude_the_warm_up() -> None:
    engine = FakeEngine()
    figures = measure(engine, warmup=4, steps=8, clock=lambda: engine.now)
    assert engine.done == 12
    assert engine.waited == 2
    assert figures["tokens"] == 16
    assert figures["step_ms"] == pytest.approx(15.0)
    assert figures["tokens_per_second"] == pytest.approx(16 / 0.12, rel=1e-3)
    assert (figures["itl_p50_ms"], figures["itl_p90_ms"]) == (pytest.approx(10.0), pytest.approx(30.0))
    assert (figures["misses_per_step"], figures["lookups_per_step"]) == (3.0, 10.0)
    assert figures["host_to_device_gb_per_second"] == pytest.approx(3000 * 8 / 0.12 / 1e9, abs=1e-3)


def test_percentile_is_the_nearest_rank() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, share) for share in (1, 25, 26, 50, 99, 100)] == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


def test_kernels_are_split_into_parts_and_gaps() -> None:
    kernels = [
        Kernel("nvjet_gemm", 0.0, 10.0),
        Kernel("attend_share", 12.0, 6.0),
        Kernel("copy_rows_kernel", 14.0, 10.0),  # beside, and longer
        Kernel("attend_share", 30.0, 2.0),
        Kernel("something new", 32.0, 1.0),
    ]
    parts = split(kernels, steps=2)
    assert list(parts) == list(ORDER)
    assert parts["projections"] == 0.005
    assert parts["attend"] == pytest.approx((2 + 4 / 2 + 2) / 2 / 1000)
    assert parts["plan and copy"] == pytest.approx((4 / 2 + 6) / 2 / 1000)
    assert parts[OTHER] == 0.0005
    assert parts[IDLE] == pytest.approx((2 + 6) / 2 / 1000)
    assert sum(parts.values()) == pytest.approx(33 / 2 / 1000)
    assert unnamed(kernels) == {"something new": 1.0}
    assert split([], 1)[IDLE] == 0.0


def test_every_part_has_a_colour_and_a_place() -> None:
    assert set(ORDER) == {part for part, _ in PARTS} | {OTHER, IDLE}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Memcpy DtoH (Device -> Pinned)", "backup"),
        ("void cutlass::Kernel2<cutlass_80_wmma>", "projections"),
        ("vectorized_elementwise_kernel", OTHER),
    ],
)
def test_kernel_names_that_others_chose(name: str, part: str) -> None:
    assert part_of(name) == part


def row(concurrency: int, tokens: float, **others: Any) -> dict[str, Any]:
    about = {"model": "m", "context": 1, "mode": "resident", "selection": "s", "concurrency": concurrency}
    return about | {"tokens_per_second": tokens} | others


def test_a_second_run_replaces_what_it_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "decode.json"
    decode_results.write(path, [row(1, 10.0), row(2, 20.0)])
    merged = decode_results.write(path, [row(2, 25.0), row(4, 40.0)])
    assert [(r["concurrency"], r["tokens_per_second"]) for r in merged] == [(1, 10.0), (2, 25.0), (4, 40.0)]
    assert decode_results.read(path) == merged
    path.write_text(path.read_text().replace('"benchmark"', '"notes": ["kept"], "benchmark"'))
    decode_results.write(path, [])
    assert '"kept"' in path.read_text()


def test_the_best_row_is_one_without_an_error() -> None:
    rows = [
        row(1, 10.0),
        row(2, 20.0),
        row(4, 40.0, error="out of memory"),
        row(2, 90.0, mode="hierarchical"),
    ]
    found = decode_results.best(rows, mode="resident")
    assert found is not None
    assert found["concurrency"] == 2
    assert decode_results.best(rows, mode="other") is None


def test_turnover_is_interpolated_and_clamped() -> None:
    table = [Point(1000, 64, 0.01, 2.0), Point(1000, 64, 0.04, 8.0), Point(9000, 64, 0.5, 4.0)]
    assert turnover_for(4.0, 1000, 64, table) == pytest.approx(0.02)
    assert turnover_for(2.0, 1000, 64, table) == pytest.approx(0.01)
    assert turnover_for(100.0, 1100, 60, table) == 0.04
    assert turnover_for(0.1, 1000, 64, table) == 0.01
    assert turnover_for(0.0, 1000, 64, table) == 0.0


def test_the_measured_table_covers_what_is_asked_of_it() -> None:
    table = read_table()
    for context in (8192, 32_768, 131_072):
        turnovers = [turnover_for(misses, context, 4096, table) for misses in (4, 16, 32, 64)]
        assert turnovers == sorted(turnovers)
        assert len(set(turnovers)) == 4
