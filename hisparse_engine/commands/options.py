"""Flags that every command with an engine shares. Each is also an environment variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

_ENGINE_OPTIONS = (
    click.option(
        "--mode",
        type=click.Choice(["hierarchical", "resident"]),
        default="hierarchical",
        show_default=True,
        envvar="HISPARSE_MODE",
        help="Full KV on the host and a hot buffer on the device, or every KV row on the device.",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        envvar="HISPARSE_DEVICE",
        help="Where the model computes.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        envvar="HISPARSE_DTYPE",
        help="Of weights, activations and KV rows.",
    ),
    click.option(
        "--device-buffer-size",
        type=int,
        envvar="HISPARSE_DEVICE_BUFFER_SIZE",
        help="Hot buffer of one request in tokens, at least the model's top-k.  [default: 2 × top-k]",
    ),
    click.option(
        "--device-tokens",
        type=int,
        envvar="HISPARSE_DEVICE_TOKENS",
        help="Capacity of the device pool in tokens.  [default: what the requests need]",
    ),
    click.option(
        "--host-tokens",
        type=int,
        envvar="HISPARSE_HOST_TOKENS",
        help="Capacity of the host pool in tokens.  [default: what the requests need]",
    ),
    click.option(
        "--index-tokens",
        type=int,
        envvar="HISPARSE_INDEX_TOKENS",
        help="Capacity for index keys on the device in tokens.  [default: as the pool that holds all KV rows]",
    ),
    click.option(
        "--reserve",
        type=click.Choice(["worst-case", "quantile"]),
        default="worst-case",
        show_default=True,
        envvar="HISPARSE_RESERVE",
        help="Slots promised at admission: all that a request may need, or what most recent answers needed.",
    ),
    click.option(
        "--reserve-quantile",
        type=float,
        default=0.9,
        show_default=True,
        envvar="HISPARSE_RESERVE_QUANTILE",
        help="Share of recent answers that the quantile promise covers; beyond it requests may be retracted.",
    ),
    click.option(
        "--prefix-reuse/--no-prefix-reuse",
        default=True,
        show_default=True,
        envvar="HISPARSE_PREFIX_REUSE",
        help="Copy the rows of a prefix that another request in the engine has already computed.",
    ),
    click.option(
        "--prefill-chunk-size",
        type=int,
        default=512,
        show_default=True,
        envvar="HISPARSE_PREFILL_CHUNK_SIZE",
        help="Prompt tokens computed in one step.",
    ),
    click.option(
        "--threads",
        type=int,
        envvar="HISPARSE_THREADS",
        help="CPU threads of the model.  [default: one a core]",
    ),
    click.option(
        "--verify-every",
        type=int,
        default=0,
        show_default=True,
        envvar="HISPARSE_VERIFY_EVERY",
        help="Compare a sample of hot rows with their host rows every N decode steps; 0: never.",
    ),
    click.option(
        "--decode-log-interval",
        type=int,
        default=40,
        show_default=True,
        envvar="HISPARSE_DECODE_LOG_INTERVAL",
        help="Decode steps from one log line to the next.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["split", "legacy", "json"]),
        default="split",
        show_default=True,
        envvar="HISPARSE_LOG_FORMAT",
        help="Both tiers, the old single figure, or one JSON object a line.",
    ),
)

HISPARSE_FIELDS = ("device_buffer_size", "device_tokens", "host_tokens", "index_tokens")


def engine_options(command: Command) -> Command:
    """Add the engine's flags to a command; it gets them as keyword arguments for :func:`split_settings`."""
    for option in reversed(_ENGINE_OPTIONS):
        command = option(command)
    return command


def split_settings(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split flags into the fields of ``EngineConfig`` and those of ``HiSparseConfig``."""
    tiers = {name: settings[name] for name in HISPARSE_FIELDS}
    return {name: value for name, value in settings.items() if name not in tiers}, tiers
