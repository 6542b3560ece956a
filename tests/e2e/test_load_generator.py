"""The load generator against a real server: what it reports is what the server did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.load_generator.cli import command
from benchmarks.load_generator.lengths import Row
from benchmarks.load_generator.measure import Experiment, Target, measure
from benchmarks.load_generator.records import Outcome, Run
from benchmarks.load_generator.scenarios import Scenario, judge_prefix, pools_empty, prefix
from benchmarks.load_generator.settings import Asking, Load
from tests.support.chat_checkpoint import write_chat_checkpoint
from tests.support.serving import Serving, serving

SMALL = [(Row(prompt_tokens=30, output_tokens=6),), (Row(prompt_tokens=60, output_tokens=12),)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_checkpoint(tmp_path_factory.mktemp("load") / "checkpoint")


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    arguments = ("--host-tokens", "3000", "--max-running-requests", "4")
    with serving(checkpoint, tmp_path_factory.mktemp("load") / "stats", *arguments) as one:
        yield one


def target(server: Serving, checkpoint: Path | None = None) -> Target:
    return Target(f"{server.url}/v1", metrics=(f"{server.url}/metrics",), tokenizer=checkpoint)


def run(server: Serving, experiment: Experiment, checkpoint: Path | None = None) -> Run:
    return asyncio.run(measure(target(server, checkpoint), experiment, SMALL))


def test_an_open_loop_of_exact_prompts_and_the_servers_counters_agree(
    server: Serving, checkpoint: Path
) -> None:
    found = run(server, Experiment(Load(rate=40.0, num_requests=20, seed=4)), checkpoint)
    summary, server_said = found.summary, found.summary["server"]
    assert {record.outcome for record in found.records} == {Outcome.OK}
    assert {(r.prompt_tokens, r.output_tokens) for r in found.records} == {(30, 6), (60, 12)}
    assert all(len(record.tokens_at) >= 1 and record.finish_reason == "length" for record in found.records)
    assert server_said["generation_tokens"] == summary["output_tokens"]
    assert server_said["computed_prompt_tokens"] == summary["prompt_tokens"]["computed"]
    assert server_said["prefix_hit_tokens"] == summary["prompt_tokens"]["cached"]
    assert pools_empty(found)
    assert found.about["server"]["model"] == "tiny"


def test_a_closed_loop_of_chats_grows_by_what_was_said(server: Serving) -> None:
    load = Load(concurrency=2, num_requests=6, turns=3, seed=5)
    found = run(server, Experiment(load, Asking(api="chat")))
    assert {record.outcome for record in found.records} == {Outcome.OK}
    for chat in (0, 1):
        lengths = [r.prompt_tokens or 0 for r in found.records if r.chat == chat]
        assert len(lengths) == 3
        assert lengths == sorted(set(lengths))
        assert all((r.cached_tokens or 0) > 0 for r in found.records if r.chat == chat and r.turn)


def test_more_than_fits_ends_in_answers_and_clear_refusals(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--host-tokens", "150", "--max-running-requests", "4", "--max-waiting-requests", "2")
    load = Load(rate=2000.0, num_requests=24, seed=6)
    with serving(checkpoint, tmp_path / "stats", *arguments) as small:
        once = run(small, Experiment(load), checkpoint)
        again = run(small, Experiment(load, Asking(retries=100)), checkpoint)
    outcomes = once.summary["outcomes"]
    assert outcomes["ok"] > 0
    assert outcomes["refused"] > 0
    assert outcomes["ok"] + outcomes["refused"] == 24
    assert all(
        r.retry_after and "queue is full" in r.message for r in once.records if r.outcome is Outcome.REFUSED
    )
    assert again.summary["outcomes"]["ok"] == 24
    assert again.summary["refusals"] > 0
    assert pools_empty(once)
    assert pools_empty(again)


def test_prefix_reuse_spares_what_it_must_and_changes_no_answer(checkpoint: Path, tmp_path: Path) -> None:
    scenario: Scenario = prefix(document=600, chats=2, turns=4)
    for name, case in scenario.cases.items():
        flags = ("--host-tokens", "4000", "--max-running-requests", "2", *case.flags)
        with serving(checkpoint, tmp_path / name, *flags) as one:
            scenario.runs[name] = asyncio.run(
                measure(target(one, checkpoint), case.experiment, case.conversations)
            )
    findings = judge_prefix(scenario.runs, document=600)
    assert findings["expected_cached_tokens"] == [0, 663, 727, 791, 600, 663, 727, 791]
    assert findings["cached_tokens"] == findings["expected_cached_tokens"]
    asked = 2 * (640 + 704 + 768 + 832)
    assert findings["prompt_tokens_computed"] == {"reuse": asked - 4962, "no reuse": asked}
    assert findings["answers_identical"] == findings["answers"] == 8
    assert findings["holds"]
    assert scenario.to_json()["runs"]["reuse"]["requests"][1]["cached_tokens"] == 663


def test_the_command_leaves_a_table_a_file_and_a_picture(server: Serving, tmp_path: Path) -> None:
    out, plot, lengths = (tmp_path / name for name in ("run.json", "run.png", "lengths.csv"))
    lengths.write_text("prompt_tokens,output_tokens\n20,5\n")
    arguments: list[Any] = [
        "--url", f"{server.url}/v1", "--rate", "50", "--num-requests", "8", "--lengths", lengths, "--out", out,
        "--plot", plot,
    ]  # fmt: skip
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "time to first token" in result.output
    assert "8 ok" in result.output
    written = json.loads(out.read_text())
    assert len(written["requests"]) == 8
    assert written["settings"]["lengths"] == "lengths.csv"
    assert {"device_usage", "host_usage", "running"} <= set(written["samples"]["columns"])
    assert 0 < written["generator"]["cpu_share"] < 1.5
    assert plot.read_bytes().startswith(b"\x89PNG")
