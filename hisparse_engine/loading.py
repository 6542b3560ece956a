"""From an open checkpoint to a model, with progress on a terminal."""

from __future__ import annotations

import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel, load_model
from hisparse_engine.progress import progress_bar

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(checkpoint: Checkpoint, config: EngineConfig) -> DsaModel:
    """Load a checkpoint's weights in the configured dtype (or its own, see ``EngineSettings.dtype_for``), onto the device.

    Sets the process's thread count when one is configured: PyTorch knows no smaller scope.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with progress_bar("Loading weights", unit="layers") as progress:
        dtype = DTYPES[config.dtype_for(checkpoint.config.dtype)]
        return load_model(checkpoint, dtype=dtype, device=torch.device(config.device), progress=progress)
