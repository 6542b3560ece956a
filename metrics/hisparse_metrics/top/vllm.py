"""vLLM's own HiSparse metrics under the catalogue's names. Its revisions spell them differently; blocks stay ratios.

vLLM's device blocks are an evictable cache of the host pool, so its device usage is another thing than ours: it is left
out. How many tokens a host block holds is not told, so host usage is all there is of the host pool.
"""

from __future__ import annotations

from collections.abc import Mapping

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Metric

PREFIX = "vllm:"
_HISPARSE = "vllm:hisparse_"
_HITS = ("vllm:hisparse_cache_hits", "vllm:hisparse_hits")
_MISSES = ("vllm:hisparse_cache_misses", "vllm:hisparse_misses")
_LOOKUPS = ("vllm:hisparse_lookups",)
_USAGE = ("vllm:hisparse_host_cache_usage_perc", "vllm:hisparse_host_blocks_usage")
_USED = ("vllm:hisparse_host_blocks_used",)
_BLOCKS = ("vllm:hisparse_host_blocks_total", "vllm:hisparse_host_blocks")
_SAME: tuple[tuple[Metric, tuple[str, ...]], ...] = (
    (catalogue.HOST_TO_DEVICE_BYTES, ("vllm:hisparse_host_to_device_bytes",)),
    (catalogue.GENERATION_TOKENS, ("vllm:generation_tokens",)),
    (catalogue.PROMPT_TOKENS, ("vllm:prompt_tokens",)),
    (catalogue.RUNNING_REQUESTS, ("vllm:num_requests_running",)),
    (catalogue.WAITING_REQUESTS, ("vllm:num_requests_waiting",)),
)
_NAMES = (
    *_HITS, *_MISSES, *_LOOKUPS, *_USAGE, *_USED, *_BLOCKS, *(name for _, names in _SAME for name in names),
)  # fmt: skip
WANTED = frozenset(_NAMES) | frozenset(f"{name}_total" for name in _NAMES)
"""Every series name that is read here, as a gauge or as a counter is exposed."""


def has_hisparse(samples: Mapping[str, float]) -> bool:
    """Tell whether these are a vLLM's that runs HiSparse."""
    return any(name.startswith(_HISPARSE) for name in samples)


def normalised(samples: Mapping[str, float]) -> dict[str, float]:
    """Return the values by catalogue name; what this revision does not tell is left out."""
    values: dict[str, float | None] = {metric.name: _first(samples, names) for metric, names in _SAME}
    hits, misses, lookups = (_first(samples, names) for names in (_HITS, _MISSES, _LOOKUPS))
    if hits is not None:
        if lookups is None and misses is not None:
            lookups = hits + misses
        values[catalogue.SWAP_IN_HITS.name] = hits
        values[catalogue.SWAP_IN_LOOKUPS.name] = lookups
    values[catalogue.HOST_TOKEN_USAGE.name] = _usage(samples)
    values[catalogue.ENGINE_UP.name] = 1.0
    return {name: value for name, value in values.items() if value is not None}


def _usage(samples: Mapping[str, float]) -> float | None:
    stated = _first(samples, _USAGE)
    used, blocks = _first(samples, _USED), _first(samples, _BLOCKS)
    if stated is not None or used is None or not blocks:
        return stated
    return used / blocks


def _first(samples: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    spelled = (spelling for name in names for spelling in (f"{name}_total", name))
    return next((samples[name] for name in spelled if name in samples), None)
