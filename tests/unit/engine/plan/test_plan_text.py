"""The one table of a memory plan, in full, in brief and in a line; and what an engine's start makes of it."""

from __future__ import annotations

import io
from typing import Literal

import pytest
from rich.console import Console

from hisparse_engine.config import EngineConfig, EngineSettings, HiSparseConfig
from hisparse_engine.errors import CapacityError
from hisparse_engine.layout import PoolSizes
from hisparse_engine.memory_plan import GIB, MemoryPlan, Part, TokenBytes
from hisparse_engine.plan.assemble import blueprint_of
from hisparse_engine.plan.at_start import plan_at_start, print_at_start, refuse_what_cannot_fit
from hisparse_engine.plan.curve_text import bar, curve_lines
from hisparse_engine.plan.machine import Memory
from hisparse_engine.plan.report import Point, contexts
from hisparse_engine.plan.text import memory_table, one_line, plain_console
from tests.support.models import TOP_K, tiny_config

BESIDE = (
    Part("weights", "device", 4 * GIB, group="weights"),
    Part("index scores", "device", GIB // 2, group="step"),
    Part("swap plans", "device", GIB // 4, group="step"),
    Part("reserve for CUDA", "device", GIB // 4, group="reserve"),
)
PLAN = MemoryPlan(
    PoolSizes(device_tokens=1024, host_tokens=8192, index_tokens=8192, device_buffer_size=63),
    TokenBytes(
        kv_rows=GIB // 1024, index_keys=GIB // 8192, residency_slot=GIB // 2048, residency_token=GIB // 16384
    ),
    resident=False,
    max_running_requests=16,
    table_tokens=16384,
    beside=BESIDE,
)


def words(*, brief: bool = False, device_bytes: int | None = None) -> list[list[str]]:
    out = io.StringIO()
    console = plain_console(Console(file=out))
    console.print(memory_table(PLAN, device_bytes=device_bytes, host_bytes=16 * GIB, brief=brief))
    return [line.split() for line in out.getvalue().splitlines() if line.strip()]


def test_the_table_adds_up() -> None:
    assert PLAN.all_device_bytes == 8.5 * GIB
    rows = [row[:-3] + row[-2:] for row in words(device_bytes=17 * GIB)]  # without bytes
    assert rows[3:] == [
        ["weights", "4.000", "23.5%"],
        ["KV", "cache", "3.500", "20.6%"],
        ["hot", "buffers", "1,024", "1,048,576", "1.000", "5.9%"],
        ["index", "keys", "8,192", "131,072", "1.000", "5.9%"],
        ["residency", "by", "slot", "1,024", "524,288", "0.500", "2.9%"],
        ["residency", "by", "token", "16,384", "65,536", "1.000", "5.9%"],
        ["step", "0.750", "4.4%"],
        ["index", "scores", "0.500", "2.9%"],
        ["swap", "plans", "0.250", "1.5%"],
        ["reserve", "for", "CUDA", "0.250", "1.5%"],
        ["device", "memory", "8.500", "50.0%"],
        ["host", "pool", "8,192", "1,048,576", "8.000", "50.0%"],
    ]


def test_in_brief_a_step_is_one_row() -> None:
    full, brief = words(), words(brief=True)
    assert [row for row in full if row not in brief] == [
        row for row in full if row[0] in ("index", "swap") and row[1] != "keys"
    ]
    assert ["step", "805,306,368", "0.750", "8.8%"] in brief


def test_a_line_has_the_same_figures() -> None:
    assert one_line(PLAN) == (
        "Memory: device 8.500 GiB (weights 4.000, hot buffers 1.000, index keys 1.000, residency by slot 0.500, "
        "residency by token 1.000, reserve for CUDA 0.250, step 0.750) · host pool 8.000 GiB"
    )


def test_a_start_prints_the_table_in_brief() -> None:
    out = io.StringIO()
    print_at_start(PLAN, Console(file=out))
    assert "residency by token" in out.getvalue()
    assert "swap plans" not in out.getvalue()


def test_a_start_refuses_what_cannot_fit() -> None:
    refuse_what_cannot_fit(PLAN, Memory(int(7.5 * GIB), 8 * GIB))  # a step's estimate refuses nothing
    with pytest.raises(
        CapacityError, match=r"take 7\.500 GiB of device memory, and 7\.499 GiB are free; lower"
    ):
        refuse_what_cannot_fit(PLAN, Memory(int(7.4994 * GIB), 8 * GIB))
    with pytest.raises(
        CapacityError, match=r"the host pool takes 8\.000 GiB of main memory, .* has 7\.000 GiB"
    ):
        refuse_what_cannot_fit(PLAN, Memory(9 * GIB, 7 * GIB))


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_the_plan_of_a_start_has_the_engines_sizes(mode: str) -> None:
    tiers = HiSparseConfig.parse(device_tokens=100, host_tokens=300, device_buffer_size=TOP_K)
    config = EngineConfig.parse(mode=mode, max_running_requests=3, hisparse=tiers)
    plan = plan_at_start(config, tiny_config())
    assert (plan.resident, plan.max_running_requests) == (mode == "resident", 3)
    assert plan.sizes == tiers.resolve(mode=config.mode, top_k=TOP_K, max_running_requests=3)
    assert [part.name for part in plan.beside] == [
        "weights"
    ]  # a step on the CPU takes what it needs as it goes


def test_rows_in_float8_have_fewer_bytes_in_both_pools() -> None:
    model = tiny_config(kv_lora_rank=512, qk_rope_head_dim=64, index_head_dim=64)
    small, large = (
        blueprint_of(model, EngineSettings(device="cuda", dtype="bfloat16", kv_cache_dtype=kind)).plan(
            PoolSizes(100, 300, 300, TOP_K), 3, resident=False
        )
        for kind in ("float8", "auto")
    )
    assert (small.token.kv_rows, large.token.kv_rows) == (3 * 656, 3 * 1152)
    assert small.token.index_keys == large.token.index_keys
    assert (small.host_bytes, large.host_bytes) == (300 * 3 * 656, 300 * 3 * 1152)
    of_rows = ("prompt rows of two layers", "new rows on their way home")
    for one, other in zip(small.beside, large.beside, strict=True):
        expected = 656 * other.num_bytes / 1152 if other.name in of_rows else other.num_bytes
        assert (one.name, one.num_bytes) == (other.name, expected)


@pytest.mark.parametrize(
    ("keys", "rows", "fit"),
    [
        ({"kv_lora_rank": 512}, "float8", True),
        ({"kv_lora_rank": 384}, "float8", False),
        ({"kv_lora_rank": 384}, "auto", True),
        ({"kv_lora_rank": 33}, "auto", False),
    ],
)
def test_rows_that_kernels_cannot_copy_have_no_tables(
    keys: dict[str, int], rows: Literal["auto", "float8"], fit: bool
) -> None:
    settings = EngineSettings(device="cuda", dtype="bfloat16", kv_cache_dtype=rows)
    assert blueprint_of(tiny_config(**keys), settings).tables == fit


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_gpu_computes_in_the_checkpoints_dtype(dtype: str) -> None:
    found = blueprint_of(tiny_config(dtype=dtype), EngineSettings(device="cuda"))
    half = dtype != "float32"
    assert (found.dtype, found.tables) == ("bfloat16" if half else "float32", half)
    assert blueprint_of(tiny_config(dtype=dtype), EngineSettings()).dtype == "float32"


@pytest.mark.parametrize(
    ("fields", "tables", "reserve"),
    [
        ({"device": "cuda", "dtype": "bfloat16"}, True, True),
        ({"device": "cuda", "dtype": "bfloat16", "kernels": "reference"}, False, True),
        ({"device": "cuda", "dtype": "float32"}, False, True),
        ({"device": "cpu", "dtype": "bfloat16"}, False, False),
    ],
)
def test_only_compiled_kernels_have_tables_and_graphs(
    fields: dict[str, str], tables: bool, reserve: bool
) -> None:
    found = blueprint_of(tiny_config(), EngineSettings(**fields))  # type: ignore[arg-type]
    plan = found.plan(PoolSizes(100, 300, 300, TOP_K), 3, resident=False)
    groups = {part.group for part in plan.beside}
    assert (found.tables, "step" in groups, "reserve" in groups) == (tables, tables, reserve)
    assert (plan.table_tokens is not None) == tables


def test_index_keys_in_float8_have_a_scale_each() -> None:
    model = tiny_config(num_hidden_layers=2)
    half, whole = (
        blueprint_of(model, EngineSettings(device="cuda", dtype="bfloat16", index_key_dtype=kind))
        for kind in ("float8", "model")
    )
    assert half.token(resident=False).index_keys == 2 * (32 + 4)
    assert whole.token(resident=False).index_keys == 2 * 32 * 2


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(163_840, [4096, 8192, 16384, 32768, 65536, 131072, 163840]), (8192, [4096, 8192]), (512, [512])],
)
def test_a_curve_ends_at_the_models_last_position(longest: int, expected: list[int]) -> None:
    assert contexts(longest) == expected


def test_bars_are_to_one_scale() -> None:
    lines = list(curve_lines([Point(4096, 48, 24), Point(8192, 3, 0)], unicode=False))
    assert [line.count("#") for line in lines] == [0, 48, 24, 3, 0]
    assert lines[1].split()[:3] == ["4,096", "hierarchical", "48"]
    assert lines[4].split() == ["resident", "0"]
    assert bar(0.5 + 3 / 384, unicode=True) == "█" * 24 + "▍"
    assert bar(0, unicode=True) == ""
