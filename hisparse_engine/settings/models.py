"""Every setting that there is, with type, range and default: the sections of ``hisparse.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from hisparse_engine.config import Count, EngineSettings, Frozen, HiSparseConfig, Size


def _as_path(value: object) -> object:
    return Path(value) if isinstance(value, str) and value else value


Text = Annotated[str, Field(min_length=1)]
AnyPath = Annotated[Path, BeforeValidator(_as_path)]
Gib = Annotated[float, Field(gt=0, le=1 << 20)]


class TierSettings(HiSparseConfig):
    """``hisparse``: the two tiers, in tokens or in memory."""

    device_memory_gib: Gib | None = None
    """Memory for the KV cache on the device, in place of ``device_tokens``."""
    host_memory_gib: Gib | None = None
    """Memory for the host pool, in place of ``host_tokens``."""


class ServerSettings(Frozen):
    """``server``: how ``hisparse serve`` is reached, and how much it takes on."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_key_file: AnyPath | None = None
    served_model_name: Text | None = None
    max_waiting_requests: Count = 256
    default_chat_tokens: Size = 4096
    drain_timeout: Annotated[float, Field(ge=0)] = 20.0
    max_body_bytes: Size = 16 << 20


class MetricsSettings(Frozen):
    """``metrics``: where an engine's statistics go, and under which name."""

    stats_dir: AnyPath | None = None
    engine_name: Text | None = None


class Settings(Frozen):
    """The whole of it."""

    model: AnyPath | None = None
    engine: EngineSettings = EngineSettings()
    hisparse: TierSettings = TierSettings()
    server: ServerSettings = ServerSettings()
    metrics: MetricsSettings = MetricsSettings()
