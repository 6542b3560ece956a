"""The server's own figures, once a second, from its Prometheus endpoint: hisparse's names, SGLang's or vLLM's.

A figure has several names, of which the first that is there counts. Series of one engine that differ only in a rank
that holds the same tokens are one; over engines and data-parallel ranks tokens and counts add up, and the highest usage
counts. What is missing stays missing: not every server has metrics.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load_generator.records import Sample

INTERVAL = 1.0
_SCRAPE_TIMEOUT = 10.0
_REPLICAS = {"tp_rank", "pp_rank", "ep_rank", "moe_ep_rank", "pid"}
_USAGES = {"device_usage", "host_usage"}
_BLOCK_INFO = "vllm:cache_config_info"
NAMES: dict[str, tuple[str, ...]] = {
    "device_tokens": ("hisparse_device_tokens", "sglang:num_used_tokens"),
    "device_usage": (
        "hisparse_device_token_usage", "sglang:token_usage", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc",
    ),
    "device_spare": ("hisparse_device_tokens_spare",),
    "device_capacity": ("hisparse_device_token_capacity", "sglang:max_total_num_tokens"),
    "host_tokens": ("hisparse_host_tokens", "vllm:hisparse_host_blocks_used"),
    "host_usage": (
        "hisparse_host_token_usage", "vllm:hisparse_host_cache_usage_perc", "vllm:hisparse_host_blocks_usage",
    ),
    "host_capacity": ("hisparse_host_token_capacity", "vllm:hisparse_host_blocks_total"),
    "host_reserved": ("hisparse_host_tokens_reserved",),
    "host_cached": ("hisparse_host_tokens_cached",),
    "index_tokens": ("hisparse_index_tokens",),
    "running": ("hisparse_running_requests", "sglang:num_running_reqs", "vllm:num_requests_running"),
    "staging": ("hisparse_staging_requests",),
    "waiting": ("hisparse_waiting_requests", "sglang:num_queue_reqs", "vllm:num_requests_waiting"),
    "retractions": (
        "hisparse_retractions_total", "sglang:num_retracted_requests_total", "vllm:num_preemptions_total",
    ),
    "generation_tokens": (
        "hisparse_generation_tokens_total", "sglang:generation_tokens_total", "vllm:generation_tokens_total",
    ),
    "computed_prompt_tokens": ("hisparse_prompt_tokens_total",),
    "prefix_hit_tokens": (
        "hisparse_prefix_hit_tokens_total", "sglang:cached_tokens_total", "vllm:prefix_cache_hits_total",
    ),
    "violations": ("hisparse_invariant_violations_total",),
}  # fmt: skip
"""Figure → its names. SGLang and vLLM count cached prompt tokens as prompt tokens, so theirs are not *computed*."""
_WANTED = {name for names in NAMES.values() for name in names} | {_BLOCK_INFO}
_NAME = re.compile(r"^[a-zA-Z_:][\w:]*")


def read_sample(time: float, text: str) -> Sample:
    """Return the figures in an exposition."""
    values = _sums(text)
    found = {}
    for figure, names in NAMES.items():
        name = next((name for name in names if name in values), None)
        if name is not None:
            found[figure] = max(values[name]) if figure in _USAGES else sum(values[name])
    return Sample(time, **found)


def _sums(text: str) -> dict[str, list[float]]:
    """Return name → one value for each engine; blocks as tokens where the size of a block is known."""
    groups: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    block = None
    for family in text_string_to_metric_families("\n".join(_lines(text)) + "\n"):
        for sample in family.samples:
            if sample.name == _BLOCK_INFO:
                block = float(sample.labels.get("block_size") or 0) or None
                continue
            key = tuple(sorted((k, v) for k, v in sample.labels.items() if k not in _REPLICAS))
            group = groups[sample.name]
            group[key] = max(group.get(key, sample.value), sample.value)
    values = {name: list(group.values()) for name, group in groups.items()}
    for name in ("vllm:hisparse_host_blocks_used", "vllm:hisparse_host_blocks_total"):
        if name in values:
            values[name] = [value * block for value in values[name]] if block else []
    return {name: found for name, found in values.items() if found}


def _lines(text: str) -> list[str]:
    """Keep the lines that are wanted: the parser is slow, and the generator has tokens to time meanwhile."""
    kept = []
    for line in text.splitlines():
        found = _NAME.match(line)
        if found is not None:
            name = found[0].replace("sglang_", "sglang:", 1) if line.startswith("sglang_") else found[0]
            if name in _WANTED:
                kept.append(name + line[found.end() :])
    return kept


class Sampler:
    """Scrapes ``urls`` and keeps the samples; several where one engine's figures are in two places."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float]) -> None:
        self.samples: list[Sample] = []
        self.failures = 0
        self._urls, self._clock = urls, clock
        self._http = httpx2.AsyncClient(timeout=_SCRAPE_TIMEOUT)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def scrape(self) -> Sample | None:
        """Take one sample now; None when there is none to take."""
        time, texts = self._clock(), []
        for url in self._urls:
            try:
                answer = await self._http.get(url)
                texts.append(answer.raise_for_status().text)
            except httpx2.HTTPError:
                self.failures += 1
        try:
            sample = read_sample(time, "\n".join(texts))
        except ValueError:  # not an exposition
            self.failures += 1
            return None
        return sample if sample != Sample(time) else None

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            sample = await self.scrape()
            if sample is not None:
                self.samples.append(sample)
            await asyncio.sleep(INTERVAL - self._clock() % INTERVAL)
