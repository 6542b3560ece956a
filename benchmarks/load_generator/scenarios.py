"""Loads with a question, on a server of our own: steady work, ten times more than fits, and chats over a document.

A scenario is a few cases, each with its flags and load, and a judge that says what their runs have shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.load_generator.lengths import Conversation, Row, read_lengths
from benchmarks.load_generator.local_server import local_server
from benchmarks.load_generator.measure import Experiment, Show, Target, measure
from benchmarks.load_generator.plan import plan_chats
from benchmarks.load_generator.records import Outcome, Record, Run
from benchmarks.load_generator.settings import Asking, Load, Objective

LENGTHS = Path(__file__).parents[1] / "data" / "lengths.csv"
OVERLOAD = 10
_LEVELS = (
    "running", "staging", "waiting", "device_tokens", "host_tokens", "host_reserved", "index_tokens",
)  # fmt: skip
Runs = dict[str, Run]


@dataclass(frozen=True)
class Case:
    """One run of a scenario."""

    flags: tuple[str, ...]
    experiment: Experiment
    conversations: Sequence[Conversation]


@dataclass(frozen=True)
class Scenario:
    """``judge`` returns the findings; ``holds`` among them is whether all is as it must be."""

    name: str
    question: str
    cases: dict[str, Case]
    judge: Callable[[Runs], dict[str, Any]]
    runs: Runs = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        runs = {name: run.to_json(every_token=False) for name, run in self.runs.items()}
        return {
            "scenario": self.name,
            "question": self.question,
            "findings": self.judge(self.runs),
            "runs": runs,
        }


def run_case(case: Case, checkpoint: Path, show: Show | None = None) -> Run:
    """Run a case against a fresh server."""
    with local_server(checkpoint, case.flags) as server:
        metrics = f"{server.url.removesuffix('/v1')}/metrics"
        target = Target(server.url, metrics=(metrics,), tokenizer=checkpoint, flags=server.flags)
        return asyncio.run(measure(target, case.experiment, case.conversations, show))


def steady(lengths: Path = LENGTHS) -> Scenario:
    """Work that the server can do, for three quarters of a minute; a third of it begins with one of three documents."""
    load = Load(
        rate=2.0, duration=45.0, ramp=5.0, prefix_share=0.33, prefix_documents=3, prefix_tokens=400, seed=1
    )
    flags = ("--host-tokens", "4000")
    cases = {"steady": Case(flags, Experiment(load), read_lengths(lengths))}
    return Scenario("steady", "What do clients see of a server that is not overloaded?", cases, _judge_ends)


def overload(requests: int = 150, lengths: Path = LENGTHS) -> Scenario:
    """Ten times more work than fits, within seconds: both policies of admission, and clients that come again.

    The clients of both policies send what was refused again when Retry-After says so, so that the same requests end well
    in both. Each may generate 400 tokens and ends at a text that random words have after some 30 on average, so the
    worst case is a bad guess, as it is with real clients. In the last case answers are three times as long and outgrow
    what they are promised, so that some are retracted; what is refused there is not sent again.
    """
    load = Load(rate=10.0, num_requests=requests, seed=2)
    asking = Asking(temperature=1.0, max_tokens=400, stop="k")
    objective = Objective(ttft=10.0, itl=0.5)
    conversations = read_lengths(lengths)
    rows = [turn.row for chat in plan_chats(load, conversations) for turn in chat.turns]
    worst = sum(row.prompt_tokens + 400 for row in rows)
    flags = (
        "--host-tokens", str(worst // OVERLOAD), "--max-running-requests", "48", "--max-waiting-requests", "40",
    )  # fmt: skip
    patient, longer = replace(asking, retries=100), replace(asking, stop="z")
    cases = {
        name: Case((*flags, *policy.split()), Experiment(load, how, objective), conversations)
        for name, policy, how in (
            ("worst-case", "--reserve worst-case", patient),
            ("quantile", "--reserve quantile", patient),
            ("longer answers, quantile 0.5", "--reserve quantile --reserve-quantile 0.5", longer),
        )
    }
    question = f"What becomes of {OVERLOAD} times more work than the host pool can promise?"
    return Scenario("overload", question, cases, _judge_overload)


def prefix(document: int = 2000, chats: int = 2, turns: int = 4) -> Scenario:
    """Chats over one long document, one after the other, with prefix reuse and without; greedy."""
    load = Load(
        concurrency=1,
        num_requests=chats * turns,
        turns=turns,
        prefix_share=1.0,
        prefix_tokens=document,
        seed=3,
    )
    conversations = [(Row(prompt_tokens=40, output_tokens=24),)]
    experiment = Experiment(load, Asking(), Objective())
    cases = {
        "reuse": Case(("--prefix-reuse",), experiment, conversations),
        "no reuse": Case(("--no-prefix-reuse",), experiment, conversations),
    }
    question = "How many prompt tokens are computed in chats over one document, and are the answers the same?"
    return Scenario("prefix", question, cases, lambda runs: judge_prefix(runs, document))


ALL: dict[str, Callable[[], Scenario]] = {"steady": steady, "overload": overload, "prefix": prefix}


def expected_cached(records: Sequence[Record], document: int) -> Iterator[int]:
    """Yield how many prompt tokens of each request have rows already, when one chat follows the other.

    All that was said before in its chat, except the last token of the last answer, whose row no step has computed;
    of a later chat's first question the document.
    """
    last: dict[int, Record] = {}
    for record in records:
        before = last.get(record.chat)
        if before is not None:
            yield (before.prompt_tokens or 0) + before.output_tokens - 1
        else:
            yield document if last else 0
        last[record.chat] = record


def judge_prefix(runs: Runs, document: int) -> dict[str, Any]:
    """Compare both runs with each other and with what must come out."""
    with_reuse, without = runs["reuse"], runs["no reuse"]
    expected = list(expected_cached(with_reuse.records, document))
    cached = [record.cached_tokens for record in with_reuse.records]
    pairs = zip(with_reuse.records, without.records, strict=True)
    same = sum(a.digest == b.digest for a, b in pairs)
    computed = {name: run.summary["prompt_tokens"]["computed"] for name, run in runs.items()}
    server = {name: run.summary["server"].get("computed_prompt_tokens") for name, run in runs.items()}
    ends = _judge_ends(runs)
    return {
        "cached_tokens": cached,
        "expected_cached_tokens": expected,
        "prompt_tokens_computed": computed,
        "prompt_tokens_computed_by_the_server's_count": server,
        "answers": len(expected),
        "answers_identical": same,
        "pools_empty": ends["pools_empty"],
        "holds": cached == expected and same == len(expected) and ends["holds"] and computed == server,
    }


def _judge_overload(runs: Runs) -> dict[str, Any]:
    ends = _judge_ends(runs)
    goodput = {name: run.summary["goodput"] for name, run in runs.items()}
    clear = all(
        record.outcome is Outcome.OK or (record.outcome is Outcome.REFUSED and record.retry_after is not None)
        for run in runs.values()
        for record in run.records
    )
    return {**ends, "goodput": goodput, "success_or_clear_refusal": clear, "holds": ends["holds"] and clear}


def _judge_ends(runs: Runs) -> dict[str, Any]:
    """Return whether every request has ended, and every pool was empty in the end."""
    ended = {name: all(record.ended > 0 for record in run.records) for name, run in runs.items()}
    empty = {name: pools_empty(run) for name, run in runs.items()}
    sound = all(not run.summary["server"].get("violations") for run in runs.values())
    return {
        "outcomes": {name: run.summary["outcomes"] for name, run in runs.items()},
        "all_ended": ended,
        "pools_empty": empty,
        "holds": sound and all(ended.values()) and all(empty.values()),
    }


def pools_empty(run: Run) -> bool:
    """Whether the last sample has no request and no token in any pool."""
    return bool(run.samples) and all(getattr(run.samples[-1], name) == 0 for name in _LEVELS)
