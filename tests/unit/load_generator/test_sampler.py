"""The figures of three kinds of server, read off their expositions; whatever else is there is ignored."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.load_generator.records import Sample
from benchmarks.load_generator.sampler import NAMES, Sampler, read_sample
from hisparse_metrics import catalogue

HISPARSE = """\
# HELP hisparse_device_tokens Used slots.
# TYPE hisparse_device_tokens gauge
hisparse_device_tokens{engine_name="a",dp_rank="0",tp_rank="0"} 100
hisparse_device_tokens{engine_name="a",dp_rank="0",tp_rank="1"} 101
hisparse_device_tokens{engine_name="a",dp_rank="1",tp_rank="0"} 50
hisparse_host_token_usage{engine_name="a",dp_rank="0"} 0.25
hisparse_host_token_usage{engine_name="a",dp_rank="1"} 0.75
hisparse_retractions_total{engine_name="a",dp_rank="0"} 3.0
hisparse_requests_total{outcome="stop"} 12
"""
SGLANG = """\
sglang:num_used_tokens{model_name="m",tp_rank="0"} 1234.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
sglang:num_running_reqs{model_name="m",tp_rank="0"} 7
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 2
sglang:num_retracted_requests_total{model_name="m"} 5
sglang:e2e_request_latency_seconds_bucket{le="0.3",model_name="m"} 0.0
"""
VLLM = """\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:num_preemptions_total{engine="0"} 9
vllm:hisparse_host_blocks_used{engine="0"} 10
vllm:hisparse_host_blocks_total{engine="0"} 40
vllm:hisparse_host_cache_usage_perc{engine="0"} 0.25
vllm:cache_config_info{block_size="64",engine="0",cache_dtype="auto"} 1
"""


def test_hisparse() -> None:
    expected = Sample(1.0, device_tokens=151, host_usage=0.75, retractions=3)
    assert read_sample(1.0, HISPARSE) == expected


@pytest.mark.parametrize("text", [SGLANG, SGLANG.replace("sglang:", "sglang_")], ids=["colon", "underscore"])
def test_sglang_in_both_spellings(text: str) -> None:
    assert read_sample(0.0, text) == Sample(
        0.0, device_tokens=1234, device_usage=0.28, running=7, waiting=2, retractions=5
    )


def test_vllm_and_its_blocks_as_tokens() -> None:
    expected = Sample(
        0.0, host_tokens=640, host_capacity=2560, host_usage=0.25, device_usage=0.5, running=7, waiting=1,
        retractions=9,
    )  # fmt: skip
    assert read_sample(0.0, VLLM) == expected
    unknown = read_sample(0.0, "\n".join(line for line in VLLM.splitlines() if "cache_config" not in line))
    assert (unknown.host_tokens, unknown.host_capacity, unknown.running) == (None, None, 7)


def test_a_sidecar_tells_what_its_engine_does_not() -> None:
    both = read_sample(0.0, SGLANG + "hisparse_host_token_usage 0.97\nhisparse_device_token_usage 0.5\n")
    assert (both.host_usage, both.device_usage, both.running) == (0.97, 0.5, 7)


def test_our_own_names_are_in_the_catalogue() -> None:
    known = {metric.name for metric in catalogue.ALL}
    assert {name for names in NAMES.values() for name in names if name.startswith("hisparse_")} <= known


@pytest.mark.parametrize("text", ["", "up 1\n", "<html>no metrics</html>"])
def test_nothing_is_known_of_a_server_without_such_metrics(text: str) -> None:
    assert read_sample(3.0, text) == Sample(3.0)


def test_a_server_that_does_not_answer_costs_nothing_but_a_count() -> None:
    async def scrape() -> tuple[Sample | None, int]:
        sampler = Sampler(["http://127.0.0.1:9/metrics"], lambda: 0.0)  # the discard port: nobody listens
        found = await sampler.scrape()
        await sampler.close()
        return found, sampler.failures

    assert asyncio.run(scrape()) == (None, 1)
