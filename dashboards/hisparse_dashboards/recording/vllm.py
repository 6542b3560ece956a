"""vLLM's own ``vllm:hisparse_*`` metrics in the recorded vocabulary, in each of their revisions.

Its label ``engine`` is an index, which becomes ``dp_rank``; its values are sums over tensor-parallel ranks. It counts
host memory in blocks: tokens are blocks times the block size of ``vllm:cache_config_info``, and absent without one.
Only targets with a HiSparse host cache are recorded. Names: vLLM's pull requests 46326 and following.
"""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config

HOST_USAGE = "vllm:hisparse_host_cache_usage_perc"
"""Counts evictable blocks as free, as our own usage does."""
HOST_BLOCKS_USAGE = "vllm:hisparse_host_blocks_usage"
"""An older revision's: counts evictable blocks as used."""
HOST_BLOCKS_USED = "vllm:hisparse_host_blocks_used"
HOST_BLOCKS = "vllm:hisparse_host_blocks_total"
"""A gauge, whatever its name says."""
HITS = ("vllm:hisparse_cache_hits_total", "vllm:hisparse_hits_total")
MISSES = "vllm:hisparse_cache_misses_total"
LOOKUPS = "vllm:hisparse_lookups_total"
HOST_TO_DEVICE_BYTES = "vllm:hisparse_host_to_device_bytes_total"
PENDING = ("vllm:hisparse_pending_page_transfers", "vllm:hisparse_pending_spills")
DEVICE_USAGE = "vllm:kv_cache_usage_perc"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
GENERATION_TOKENS = "vllm:generation_tokens_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
PREEMPTIONS = "vllm:num_preemptions_total"
CACHE_CONFIG = "vllm:cache_config_info"
NAMES = frozenset({
    HOST_USAGE, HOST_BLOCKS_USAGE, HOST_BLOCKS_USED, HOST_BLOCKS, *HITS, MISSES, LOOKUPS, HOST_TO_DEVICE_BYTES, *PENDING, DEVICE_USAGE,
    RUNNING, WAITING, GENERATION_TOKENS, PROMPT_TOKENS, PREEMPTIONS, CACHE_CONFIG,
})  # fmt: skip
"""Every series of vLLM that is read."""

BLOCK_SIZES = (1, 8, 16, 32, 64, 128, 256, 512)
"""Block sizes that are understood: PromQL cannot turn a label into a number, so each is spelled out."""
BLOCK_SIZE = v.recorded("block_size", "tokens")
STALLED_WINDOW = "2m"
"""vLLM has no time of its last step; no new token for so long is taken for no step."""
SAME_TARGET = "on (job, instance, engine)"


def rules(config: Config) -> dict[str, str]:
    """Return name → expression, in an order in which each reads only what stands before it."""
    window = config.vllm_rate_window
    hits, misses, lookups = _rates(HITS, window), _rates((MISSES,), window), _rates((LOOKUPS,), window)
    blocks = _any(HOST_BLOCKS_USAGE, f"{HOST_BLOCKS_USED} / ({HOST_BLOCKS} > 0)")
    generation, running = _rates((GENERATION_TOKENS,), config.rate_window), RUNNING
    return {
        BLOCK_SIZE: _rank(f"max by (job, instance, engine) ({_any(*map(_block_size, BLOCK_SIZES))})"),
        v.HOST_TOKEN_USAGE: _rank(HOST_USAGE),
        v.HOST_COMMITTED: _rank(HOST_USAGE),
        v.HOST_CACHE_USAGE: _rank(blocks),
        v.HOST_CAPACITY: _in_tokens(HOST_BLOCKS),
        v.DEVICE_CACHE_USAGE: _rank(_if_hisparse(DEVICE_USAGE)),
        v.HIT_RATIO: _rank(f"({hits}) / (({_any(f'({hits}) + ({misses})', lookups)}) > 0)"),
        v.MISSES: _rank(_any(misses, f"{lookups} - ({hits})")),
        v.HOST_TO_DEVICE: _rank(_rates((HOST_TO_DEVICE_BYTES,), window)),
        v.BACKUP_PENDING: _rank(_any(*PENDING)),
        v.GENERATION: _rank(_if_hisparse(generation)),
        v.PROMPT: _rank(_if_hisparse(_rates((PROMPT_TOKENS,), config.rate_window))),
        v.RUNNING: _rank(_if_hisparse(running)),
        v.WAITING: _rank(_if_hisparse(WAITING)),
        v.RETRACTIONS: _rank(_if_hisparse(_rates((PREEMPTIONS,), config.rate_window))),
        # Its series end with the process, so a target that had them within the hour is judged by its scrapes.
        v.ENGINE_UP: f"0 * ({_any(*map(_last_hour, (v.HOST_TOKEN_USAGE, v.HOST_CACHE_USAGE)))}) "
        "+ on (job, instance) group_left () up",
        v.STALLED: _rank(_if_hisparse(
            f"({running} > bool 0) * (increase({GENERATION_TOKENS}[{STALLED_WINDOW}]) == bool 0)"
        )),
    }  # fmt: skip


def _any(*exprs: str) -> str:
    """Take the first of several spellings that exists."""
    return " or ".join(exprs)


def _rates(counters: tuple[str, ...], window: str) -> str:
    return _any(*(f"rate({counter}[{window}])" for counter in counters))


def _if_hisparse(expr: str) -> str:
    """Keep what comes from a vLLM that has a HiSparse host cache."""
    return f"{expr} and {SAME_TARGET} ({_any(HOST_USAGE, HOST_BLOCKS_USAGE, HOST_BLOCKS_USED)})"


def _rank(expr: str) -> str:
    """Give vLLM's series the labels of a rank; the rule itself then sets ``engine``."""
    indexed = f'label_replace({expr}, "dp_rank", "$1", "engine", "(.*)")'
    return f'label_replace({indexed}, "engine_name", "vllm", "", "")'


def _last_hour(name: str) -> str:
    return f'last_over_time({name}{{engine="vllm"}}[1h])'


def _block_size(tokens: int) -> str:
    return f'{CACHE_CONFIG}{{block_size="{tokens}"}} * {tokens}'


def _in_tokens(blocks: str) -> str:
    return f'{_rank(blocks)} * on (job, instance, dp_rank) group_left () {BLOCK_SIZE}{{engine="vllm"}}'
