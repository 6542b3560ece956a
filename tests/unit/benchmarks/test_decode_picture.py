"""Pictures are drawn from whatever rows there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.image import imread

from benchmarks.decode_ablation import ATTEND, REST, SELECT, SWAP_IN
from benchmarks.decode_picture import _usual, save_pictures, whole_parts


def rows(model: str = "m") -> list[dict[str, Any]]:
    """Made-up rows of two contexts; resident mode is full early."""
    found = []
    for context, full in ((32_768, 16), (131_072, 4)):
        for mode, most in (("resident", full), ("hierarchical", 8 * full)):
            for concurrency in (1, full, most):
                step = (10 + 0.05 * concurrency) * (1.02 if mode == "hierarchical" else 1)
                row: dict[str, Any] = {
                    "model": model, "selection": "32 misses", "context": context, "mode": mode,
                    "concurrency": concurrency, "most": concurrency == most, "step_ms": step,
                    "tokens_per_second": 1000 * concurrency / step,
                    "itl_p50_ms": step, "itl_p99_ms": 1.1 * step, "layers": 4, "misses_per_step": 128 * concurrency,
                }  # fmt: skip
                if concurrency in (1, most):
                    row["parts_ms"] = {
                        SWAP_IN: 0.1 * step,
                        ATTEND: 0.1 * step,
                        SELECT: -0.01,
                        REST: 0.8 * step,
                    }
                    row["model_ms"] = {
                        "projections": 3.0,
                        "experts": 4.0,
                        "sampling": 0.0,
                        "nothing runs": 1.0,
                    }
                found.append(row)
    return found


def test_a_model_gets_its_pictures(tmp_path: Path) -> None:
    paths = save_pictures([*rows(), {"model": "m", "error": "out of memory"}], tmp_path)
    assert [path.name for path in paths] == [
        f"perf-decode-m-{kind}.png" for kind in ("throughput", "latency", "parts")
    ]
    for path in paths:
        pixels = imread(path)
        assert pixels.shape[1] > 600
        assert float(pixels[..., :3].std()) > 0.05  # something is drawn


def test_miss_rates_are_drawn_when_there_are_three(tmp_path: Path) -> None:
    full = [row for row in rows() if row["most"] and row["mode"] == "hierarchical"]
    others = [
        {**row, "selection": name, "misses_per_step": misses}
        for row in full
        for name, misses in (("0 misses", 0), ("own indexer", 9000))
    ]
    paths = save_pictures([*rows(), *others], tmp_path)
    assert "perf-decode-m-misses.png" in {path.name for path in paths}


def test_curves_are_of_one_kind_of_run() -> None:
    usual = [{"index_keys": "bfloat16", "selection": "32 misses"}] * 3
    assert _usual([*usual, {"index_keys": "float8", "selection": "32 misses"}], "index_keys") == usual
    assert _usual([{"a": 1}], "index_keys") == [{"a": 1}]


def test_each_model_has_its_own_and_nothing_gives_none(tmp_path: Path) -> None:
    assert {path.name.split("-")[2] for path in save_pictures([*rows("a"), *rows("b")], tmp_path)} == {
        "a",
        "b",
    }
    assert save_pictures([], tmp_path) == []


def test_the_model_is_split_as_its_kernels_are() -> None:
    row = {
        "parts_ms": {ATTEND: 1.0, REST: 8.0},
        "model_ms": {"projections": 1.0, "experts": 2.0, "other": 1.0},
    }
    assert whole_parts(row) == {ATTEND: 1.0, "projections": 2.0, "experts": 4.0, REST: 2.0}
    assert whole_parts({"parts_ms": {REST: 8.0}}) == {REST: 8.0}
