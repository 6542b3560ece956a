"""The operations on a CUDA device, gathered: a module that satisfies :class:`hisparse_engine.ops.interface.Operations`."""

import torch

from hisparse_engine.ops.gpu.attention import attend as attend
from hisparse_engine.ops.gpu.build import load
from hisparse_engine.ops.gpu.clock import add_time as add_time
from hisparse_engine.ops.gpu.select import select as select
from hisparse_engine.ops.gpu.select import store_index_keys as store_index_keys
from hisparse_engine.ops.gpu.swap_in import backup_rows as backup_rows
from hisparse_engine.ops.gpu.swap_in import copy_rows as copy_rows
from hisparse_engine.ops.gpu.swap_in import locate as locate
from hisparse_engine.ops.gpu.swap_in import move_rows as move_rows
from hisparse_engine.ops.gpu.swap_in import plan_swap_in as plan_swap_in
from hisparse_engine.ops.gpu.swap_in import shrink_buffer as shrink_buffer

LIBRARIES = ("swap_in", "topk")
"""CUDA sources that are compiled at first use."""


def build() -> None:
    """Build what is compiled at first use; :class:`~hisparse_engine.ops.gpu.build.KernelBuildError` says what is missing."""
    major, minor = torch.cuda.get_device_capability()
    for name in LIBRARIES:
        load(name, f"{major}{minor}" + ("a" if major >= 9 else ""))
