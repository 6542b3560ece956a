"""The script that measures a plan on a GPU knows every entry, and looks at the right tensors: without a GPU, on the CPU."""

from __future__ import annotations

import mmap

import pytest
import torch

from hisparse_engine.engine import Engine
from hisparse_engine.plan.assemble import Blueprint
from tests.gpu.memory_plan import buffers, present_at
from tests.support.models import BACKENDS, engine_config, tiny_config, tiny_model

NOT_BUFFERS = {
    "weights",
    "results of CUDA graphs",
    "activations (estimate)",
    "sampling (estimate)",
    "reserve for CUDA",
    "host pool",
}


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_every_entry_is_measured_on_the_tensors_that_it_plans(mode: str) -> None:
    sizes = {"device_buffer_size": 20, "device_tokens": 100, "host_tokens": 300}
    config = engine_config(mode=mode, hisparse=sizes, max_running_requests=3)
    engine = Engine(tiny_model(), config, backend=BACKENDS["tables"])
    plan = Blueprint(tiny_config(), "float32", 1, 512).plan(engine.sizes, 3, resident=mode == "resident")
    planned = {part.name: part.num_bytes for part in plan.all_parts()}
    assert buffers(engine) == {
        name: num_bytes for name, num_bytes in planned.items() if name not in NOT_BUFFERS
    }


def test_memory_that_is_there_is_told_from_memory_that_is_mapped() -> None:
    mapped = mmap.mmap(-1, 64 << 20)
    address = torch.frombuffer(mapped, dtype=torch.uint8).data_ptr()
    mapped[: 16 << 20] = bytes(range(1, 17)) * (1 << 20)
    assert present_at(address) == 16 << 20
