"""The demo's checkpoint with latents that float8 rows can hold: its own have half as many numbers as share a scale."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from hisparse_engine.demo import recipe
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.ops.float8_rows import SCALE_GROUP


def wide_demo_checkpoint(cache: Path) -> Path:
    """Return the folder of the checkpoint in ``cache``, made first if it is missing."""
    with mock.patch.dict(recipe.CONFIG, {"kv_lora_rank": SCALE_GROUP}):
        return ensure_demo_checkpoint(cache)
