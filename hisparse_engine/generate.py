"""Decode a set of prompts once: what ``hisparse generate`` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.engine import Engine
from hisparse_engine.errors import CheckpointError
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.plan.at_start import plan_at_start
from hisparse_engine.plan.text import one_line
from hisparse_engine.progress import progress_bar
from hisparse_engine.request import Request, RequestError, SamplingParams
from hisparse_engine.tokenizer import Tokenizer
from hisparse_metrics.decode_log import LogFormat
from hisparse_metrics.decode_logger import DecodeLogger


@dataclass(frozen=True)
class PromptSource:
    """Prompts as a person gives them: texts, files, or token ids; one kind at a time."""

    texts: Sequence[str] = ()
    files: Sequence[Path] = ()
    ids: Sequence[str] = ()

    def read(self, tokenizer: Tokenizer | None, folder: Path) -> list[list[int]]:
        """Return token ids in the order given; :class:`RequestError` for what cannot be read."""
        given = [kind for kind in (self.texts, self.files, self.ids) if kind]
        if len(given) != 1:
            raise RequestError("give prompts by exactly one of --prompt, --prompt-file and --prompt-ids")
        if self.ids:
            return [_parse_ids(text) for text in self.ids]
        if tokenizer is None:
            raise CheckpointError(
                f"{folder}: no tokenizer.json, so text cannot be encoded; give token ids with --prompt-ids"
            )
        return [tokenizer.encode(text) for text in self.texts or [_read_text(path) for path in self.files]]


@dataclass(frozen=True)
class RunStats:
    """The run's counts: the split at its peak, swap-in, and bytes moved between the tiers."""

    device_tokens: int
    device_token_usage: float
    host_tokens: int
    host_token_usage: float
    swap_in_lookups: int
    swap_in_hits: int
    swap_in_misses: int
    evictions: int
    host_to_device_bytes: int
    device_to_host_bytes: int
    decode_steps: int

    @classmethod
    def of(cls, engine: Engine) -> RunStats:
        """Read an engine's counts."""
        swap = engine.coordinator.counters
        return cls(
            *engine.peak,
            swap_in_lookups=swap.lookups,
            swap_in_hits=swap.hits,
            swap_in_misses=swap.misses,
            evictions=swap.evictions,
            host_to_device_bytes=swap.host_to_device_bytes,
            device_to_host_bytes=swap.device_to_host_bytes,
            decode_steps=engine.totals.decode_steps,
        )


@dataclass(frozen=True)
class Result:
    """One prompt's new tokens; ``text`` is None without a tokenizer. ``stats`` are the whole run's."""

    token_ids: list[int]
    text: str | None
    finish_reason: str
    prompt_tokens: int
    mode: str
    stats: RunStats

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def generate(
    folder: Path,
    source: PromptSource,
    params: SamplingParams,
    engine_fields: dict[str, Any],
    tier_fields: dict[str, Any],
) -> list[Result]:
    """Load ``folder``, decode every prompt, return results in the order of the prompts.

    Raises :class:`HiSparseError` for whatever a person can mend, before the weights are loaded where it can.
    """
    EngineConfig.parse(**engine_fields)
    HiSparseConfig.parse(**tier_fields)
    with Checkpoint.open(folder) as checkpoint:
        tokenizer = Tokenizer.open(folder) if Tokenizer.is_in(folder) else None
        prompts = source.read(tokenizer, folder)
        needs = [max(1, len(prompt) + params.max_new_tokens - 1) for prompt in prompts]
        config = fit_pools(engine_fields, tier_fields, needs, checkpoint.config.index_topk)
        plan = plan_at_start(config, checkpoint.config)
        model = load(checkpoint, config)
    logger = DecodeLogger(
        lambda line: print(line, file=sys.stderr),  # noqa: T201
        interval=config.decode_log_interval,
        log_format=LogFormat(config.log_format),
    )
    engine = Engine(model, config, observers=[logger.maybe_log])
    requests = [engine.add_request(prompt, params) for prompt in prompts]
    if config.log_format != "json":
        print(one_line(plan), file=sys.stderr)  # noqa: T201
    _run(engine, requests)
    stats = RunStats.of(engine)
    return [_result(request, tokenizer, config.mode, stats) for request in requests]


def fit_pools(
    engine_fields: dict[str, Any], tier_fields: dict[str, Any], needs: Sequence[int], top_k: int
) -> EngineConfig:
    """Size the pools that were left open so that requests of ``needs`` rows run side by side."""
    tiers = HiSparseConfig.parse(**tier_fields)
    resident = engine_fields.get("mode") == "resident"
    hot = tiers.resolve(mode="resident", top_k=top_k, max_running_requests=1).device_buffer_size + 1
    device = sum(needs) if resident else sum(min(need, hot) for need in needs)
    filled = HiSparseConfig.parse(
        device_buffer_size=tiers.device_buffer_size,
        device_tokens=tiers.device_tokens or device,
        host_tokens=tiers.host_tokens or sum(needs),
        index_tokens=tiers.index_tokens,
    )
    return EngineConfig.parse(**{"max_running_requests": len(needs), **engine_fields}, hisparse=filled)


def _run(engine: Engine, requests: Sequence[Request]) -> None:
    total = sum(len(request.prompt) + request.params.max_new_tokens for request in requests)
    with progress_bar("Decoding", unit="tokens") as report:
        while engine.has_work:
            engine.step()
            report(sum(request.num_computed + len(request.output) for request in requests), total)


def _result(request: Request, tokenizer: Tokenizer | None, mode: str, stats: RunStats) -> Result:
    assert request.outcome is not None, "run() ends every request"
    text = tokenizer.decode(request.output) if tokenizer is not None else None
    return Result(request.output, text, request.outcome.value, len(request.prompt), mode, stats)


def _parse_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"--prompt-ids: expected token ids such as 1,2,3, got {text!r}") from None


def _read_text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"--prompt-file {path}: not UTF-8 text (byte {error.start}); convert it first"
        ) from None
    except OSError as error:
        raise RequestError(f"--prompt-file {path}: {error.strerror}; give a readable text file") from None
