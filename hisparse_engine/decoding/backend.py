"""Which KV cache and which decoder an engine runs on: chosen once, at start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.coordinator import HiSparseCoordinator
from hisparse_engine.decoding.decoder import Decoder, EagerDecoder
from hisparse_engine.decoding.table_decoder import TableDecoder
from hisparse_engine.errors import ConfigError, HiSparseError
from hisparse_engine.kv import KVCoordinator, KVLayout, PoolSizes
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops.interface import Operations
from hisparse_engine.progress import progress_bar
from hisparse_engine.resident import ResidentCoordinator
from hisparse_engine.row_format import RowFormat, row_format_of
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from hisparse_engine.table_resident import TableResidentCoordinator

_log = logging.getLogger(__name__)


class KernelsUnfitError(HiSparseError):
    """The GPU's kernels cannot run this model."""


class Backend(NamedTuple):
    """A KV cache with its pools allocated, and the decoder that works on it."""

    coordinator: KVCoordinator
    decoder: Decoder


Clock: TypeAlias = Callable[[], float]
MakeBackend: TypeAlias = Callable[[DsaModel, EngineConfig, KVLayout, PoolSizes, Clock], Backend]


def choose_backend(
    model: DsaModel, config: EngineConfig, layout: KVLayout, sizes: PoolSizes, clock: Clock
) -> Backend:
    """Return the fastest backend that the device and the configuration allow, and say so where that is not the fast one."""
    if model.device.type != "cuda" or config.kernels == "reference":
        where = "on the CPU" if model.device.type != "cuda" else "with kernels: reference"
        _refuse_float8(config, f"which are not used {where}")
        return eager_backend(model, config, layout, sizes, clock)
    try:
        ops = _gpu_operations(model, layout)
    except (HiSparseError, ImportError) as reason:
        _refuse_float8(config, str(reason))
        _log.warning("decoding on the reference path, correct and slow: %s", reason)
        return eager_backend(model, config, layout, sizes, clock)
    return table_backend(model, config, layout, sizes, clock, ops)


def _refuse_float8(config: EngineConfig, reason: str) -> None:
    if config.index_key_dtype == "float8":
        raise ConfigError(f"index_key_dtype: float8 needs the compiled kernels: {reason}; use model")


def _gpu_operations(model: DsaModel, layout: KVLayout) -> Operations:
    """Return the GPU's operations, built; raise where they, or this model, cannot do it."""
    if not model.capturable:
        raise KernelsUnfitError("the CUDA kernels compute in bfloat16; use --dtype bfloat16")
    unfit = layout.unfit_for_kernels(model.dtype.itemsize, model.config.kv_lora_rank)
    if unfit is not None:
        raise KernelsUnfitError(unfit)
    from hisparse_engine.ops.gpu import operations

    operations.build()
    return operations


def table_backend(
    model: DsaModel,
    config: EngineConfig,
    layout: KVLayout,
    sizes: PoolSizes,
    clock: Clock,
    ops: Operations,
) -> Backend:
    """Return the path over device tables and ``ops``: CUDA graphs on a CUDA device, uncaptured elsewhere."""
    common: dict[str, Any] = {
        "max_running": config.max_running_requests,
        "max_length": model.config.max_position_embeddings,
        "dtype": model.dtype,
        "device": model.device,
        "prefix_reuse": config.prefix_reuse,
        "row_format": row_format_of(layout, model.config, model.dtype),
        "index_dtype": torch.float8_e4m3fn if config.index_key_dtype == "float8" else None,
    }
    coordinator: TableHiSparseCoordinator | TableResidentCoordinator
    if config.mode == "hierarchical":
        coordinator = TableHiSparseCoordinator(layout, sizes, ops, verify_every=config.verify_every, **common)
    else:
        coordinator = TableResidentCoordinator(layout, sizes, ops, **common)
    with progress_bar("Capturing CUDA graphs", unit="batch sizes") as progress:
        decoder = TableDecoder(
            model, coordinator, ops, max_running=config.max_running_requests, clock=clock, progress=progress
        )
    return Backend(coordinator, decoder)


def eager_backend(
    model: DsaModel, config: EngineConfig, layout: KVLayout, sizes: PoolSizes, clock: Clock
) -> Backend:
    """Return the reference: plain PyTorch, any device."""
    row_format = row_format_of(layout, model.config, model.dtype)
    coordinator = eager_coordinator(config, layout, sizes, model.device, model.dtype, row_format)
    hierarchical = config.mode == "hierarchical"
    decoder = EagerDecoder(model, coordinator, layout, is_hierarchical=hierarchical, clock=clock)
    return Backend(coordinator, decoder)


def eager_coordinator(
    config: EngineConfig,
    layout: KVLayout,
    sizes: PoolSizes,
    device: torch.device,
    dtype: torch.dtype,
    row_format: RowFormat,
) -> HiSparseCoordinator | ResidentCoordinator:
    """Return the reference KV cache of the configured mode, its pools allocated; residency is kept in NumPy.

    ``dtype`` is the model's, ``row_format`` how KV rows are stored.
    """
    common: dict[str, Any] = {
        "dtype": dtype,
        "device": device,
        "prefix_reuse": config.prefix_reuse,
        "row_format": row_format,
    }
    if config.mode == "resident":
        return ResidentCoordinator(layout, sizes, **common)
    return HiSparseCoordinator(layout, sizes, verify_every=config.verify_every, **common)
