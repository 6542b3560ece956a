"""The same figures from pages and from expositions; vLLM's under their names; what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from hisparse_metrics import catalogue as m
from hisparse_metrics.top.exposition import parse
from hisparse_metrics.top.pages import PageSource
from hisparse_metrics.top.reading import Engine, RankKey, ReadError
from hisparse_metrics.top.state import State
from tests.unit.metrics.support import make_step, published, registry_of
from tests.unit.top.support import board, reading, snapshot_of

VLLM = """
# HELP vllm:hisparse_cache_hits_total hits
# TYPE vllm:hisparse_cache_hits_total counter
vllm:hisparse_cache_hits_total{engine="0",model_name="ds"} %(hits)s
vllm:hisparse_cache_misses_total{engine="0",model_name="ds"} %(misses)s
vllm:hisparse_host_to_device_bytes_total{engine="0",model_name="ds"} %(bytes)s
vllm:hisparse_host_cache_usage_perc{engine="0",model_name="ds"} 0.42
vllm:hisparse_pending_page_transfers{engine="0",model_name="ds"} 3.0
vllm:num_requests_running{engine="0",model_name="ds"} 5.0
vllm:num_requests_waiting{engine="0",model_name="ds"} 1.0
vllm:generation_tokens_total{engine="0",model_name="ds"} 100.0
vllm:kv_cache_usage_perc{engine="0",model_name="ds"} 0.99
vllm:request_success_total{engine="0",finished_reason="stop",model_name="ds"} 9.0
"""
SIDECAR = """
hisparse_engine_up{engine_name="sglang",model_name="glm",dp_rank="0",pp_rank="0",tp_rank="1",ep_rank="0",source="a.log"} 1.0
hisparse_host_tokens{engine_name="sglang",model_name="glm",dp_rank="0",pp_rank="0",tp_rank="1",ep_rank="0",source="a.log"} 91200.0
hisparse_host_token_usage{engine_name="sglang",model_name="glm",dp_rank="0",pp_rank="0",tp_rank="1",ep_rank="0",source="a.log"} 0.7
hisparse_generation_tokens_per_second{engine_name="sglang",model_name="glm",dp_rank="0",pp_rank="0",tp_rank="1",ep_rank="0",source="a.log"} 71.3
hisparse_running_requests{engine_name="sglang",model_name="glm",dp_rank="0",pp_rank="0",tp_rank="1",ep_rank="0",source="a.log"} 3.0
hisparse_source_state{source="a.log",state="working"} 0.0
hisparse_source_state{source="a.log",state="stalled"} 1.0
"""


def test_pages_and_their_exposition_say_the_same(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    [page] = PageSource(tmp_path).read().ranks
    [exposed] = parse(generate_latest(registry_of(tmp_path)).decode())
    assert page.key == exposed.key == RankKey("test", "tiny", "0", "0", "0", "0")
    assert dict(page.values) == dict(exposed.values)
    assert page.steps == exposed.steps
    assert page.info == exposed.info
    assert page.value(m.HOST_TOKENS) == make_step().levels.host_tokens
    recorder.close()


def test_a_dead_engines_page_and_exposition_say_the_same(tmp_path: Path) -> None:
    published(tmp_path).close()
    source = PageSource(tmp_path, clock=lambda: make_step().timestamp)
    [page] = source.read().ranks
    assert (page.value(m.ENGINE_UP), page.value(m.HOST_TOKENS)) == (0, None)
    assert page.value(m.GENERATION_TOKENS) == make_step().totals.generation_tokens


def test_a_folder_that_is_not_there_yet_may_come(tmp_path: Path) -> None:
    found = PageSource(tmp_path / "later").read()
    assert found.ranks == ()
    assert found.note.startswith(f"no engine publishes in {tmp_path / 'later'}; ")


def test_pages_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.page").write_bytes(b"x" * 9000)
    assert PageSource(tmp_path).read().note == "stats pages left out: 1 damaged"


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadError, match="not a readable folder"):
        PageSource(tmp_path / "file").read()


def test_vllm_by_its_own_names() -> None:
    taken = board()
    taken.take(reading(0, *parse(VLLM % {"hits": 0.0, "misses": 0.0, "bytes": 0.0})))
    taken.take(reading(300, *parse(VLLM % {"hits": 2.7e6, "misses": 3e5, "bytes": 300 * 2.0**20})))
    [rank] = snapshot_of(taken, 300).ranks
    assert (rank.name, rank.engine, rank.state) == ("vllm", "vllm", State.UP)
    assert (rank.host_usage, rank.running, rank.waiting) == (0.42, 5, 1)
    assert rank.hit_ratio == pytest.approx(0.9)
    assert rank.host_to_device == pytest.approx(2.0**20)
    assert (rank.device_usage, rank.host_tokens) == (None, None), "vLLM's device blocks are another thing"


@pytest.mark.parametrize(
    ("lines", "hits", "lookups", "usage"),
    [
        ("vllm:hisparse_hits_total 9\nvllm:hisparse_lookups_total 10\n", 9, 10, None),
        ("vllm:hisparse_host_blocks_used 30\nvllm:hisparse_host_blocks_total 120\n", None, None, 0.25),
        ("vllm:hisparse_host_blocks_usage 0.5\nvllm:hisparse_host_blocks_used 1\n", None, None, 0.5),
        ("vllm:hisparse_host_blocks_used 0\nvllm:hisparse_host_blocks_total 0\n", None, None, None),
    ],
)
def test_vllms_other_revisions(
    lines: str, hits: float | None, lookups: float | None, usage: float | None
) -> None:
    [rank] = parse(lines)
    values = [rank.value(metric) for metric in (m.SWAP_IN_HITS, m.SWAP_IN_LOOKUPS, m.HOST_TOKEN_USAGE)]
    assert values == [hits, lookups, usage]


def test_a_vllm_without_hisparse_is_no_rank() -> None:
    assert parse('vllm:num_requests_running{engine="0",model_name="ds"} 5.0\n') == ()


def test_a_sidecars_exposition() -> None:
    [rank] = parse(SIDECAR)
    assert (rank.engine, rank.log_state) == (Engine.SGLANG, "stalled")
    assert rank.value(m.HOST_TOKENS) == 91_200


def test_lines_that_nobody_needs_are_not_parsed() -> None:
    assert parse("this is { no exposition\n<html>\nnode_load1 0.3\n") == ()


def test_a_line_that_matters_and_is_broken_is_an_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        parse('hisparse_host_tokens{engine_name="a"} many\n')


def test_not_a_number_is_not_a_figure() -> None:
    [rank] = parse(
        'hisparse_host_tokens{engine_name="a"} NaN\nhisparse_device_tokens{engine_name="a"} 3\n'
    ) or [None]
    assert rank is not None
    assert (rank.value(m.HOST_TOKENS), rank.value(m.DEVICE_TOKENS)) == (None, 3)
