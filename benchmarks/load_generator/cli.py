"""The command ``benchmarks/serving.py``: flags in, a table, a JSON file and a picture out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from benchmarks.load_generator.lengths import read_lengths
from benchmarks.load_generator.local_server import local_server
from benchmarks.load_generator.measure import Experiment, Target, measure
from benchmarks.load_generator.picture import save_picture
from benchmarks.load_generator.records import write_json
from benchmarks.load_generator.settings import Asking, Load, LoadError, Objective
from benchmarks.load_generator.table import failed, print_run, progress
from hisparse_engine.errors import HiSparseError

LENGTHS = Path(__file__).parents[1] / "data" / "lengths.csv"
_POSITIVE = click.FloatRange(min=0, min_open=True)
_NATURAL = click.IntRange(min=1)
_F = TypeVar("_F", bound=Callable[..., Any])


def _option(*names: str, **attributes: Any) -> Callable[[_F], _F]:
    return click.option(*names, **{"show_default": True, **attributes})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@_option(
    "--url", help="Server to ask, up to and with /v1.  [default: start hisparse serve on the demo's model]"
)
@_option(
    "--model",
    default="",
    help="Model to ask.  [default: the first that the server names]",
    show_default=False,
)
@_option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File whose first line is the key.",
)
@_option(
    "--metrics-url",
    "metrics",
    multiple=True,
    help="Prometheus endpoint; may be repeated.  [default: /metrics there]",
)
@_option(
    "--tokenizer",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the model's tokenizer.json: prompts are token ids of exact lengths (completions only).",
)
@_option("--api", type=click.Choice(["completions", "chat"]), default="completions", help="Endpoint.")
@_option(
    "--rate", type=_POSITIVE, help="Poisson arrivals: chats a second.  [default: 1, unless --concurrency]"
)
@_option("--concurrency", type=_NATURAL, help="Closed loop of so many clients, in place of --rate.")
@_option(
    "--ramp", type=click.FloatRange(min=0), default=0.0, help="Seconds over which the load rises from 0."
)
@_option("--num-requests", type=_NATURAL, help="Requests in all.  [default: 60, unless --duration]")
@_option("--duration", type=_POSITIVE, help="Seconds after which nothing new begins.")
@_option(
    "--lengths",
    type=click.Path(path_type=Path, dir_okay=False),
    default=LENGTHS,
    show_default="data/lengths.csv",
    help="File of lengths: JSON lines, CSV, or ShareGPT's chats.",
)
@_option(
    "--turns", type=_NATURAL, default=1, help="Questions a chat; with ShareGPT's chats, at most so many."
)
@_option(
    "--think", type=click.FloatRange(min=0), default=0.0, help="Mean seconds before a chat's next question."
)
@_option(
    "--prefix-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of chats that begin with a common document.",
)
@_option("--prefix-documents", type=_NATURAL, default=1, help="Number of such documents.")
@_option("--prefix-tokens", type=_NATURAL, default=1000, help="Length of such a document.")
@_option("--seed", type=int, default=0, help="Decides arrivals, lengths, words and sampling.")
@_option("--temperature", type=click.FloatRange(0, 2), default=0.0, help="0 is greedy.")
@_option(
    "--max-tokens", type=_NATURAL, help="What each request may generate.  [default: its row's output_tokens]"
)
@_option("--stop", help="End answers at this text; without it they go on to their limit.")
@_option(
    "--ignore-eos/--no-ignore-eos",
    default=True,
    help="Ask for answers of full length; for servers that know it.",
)
@_option("--timeout", type=_POSITIVE, default=120.0, help="Seconds that a request may take.")
@_option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    help="Send a refused request again so often, after Retry-After.",
)
@_option(
    "--warm-up", type=click.IntRange(min=0), default=2, help="Requests before the run that do not count."
)
@_option("--slo-ttft", type=_POSITIVE, default=2.0, help="Seconds to the first token of a good answer.")
@_option("--slo-itl", type=_POSITIVE, default=0.2, help="Mean seconds between tokens of a good answer.")
@_option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there, as JSON.")
@_option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the run there, as PNG.")
@click.argument("serve_flags", nargs=-1, type=click.UNPROCESSED)
def command(**given: Any) -> None:
    """Load a server with requests and measure what its clients see.

    \b
    python benchmarks/serving.py --rate 1 --duration 60 --out run.json --plot run.png
    python benchmarks/serving.py --url http://gpu:30000/v1 --concurrency 64 --num-requests 1000
    python benchmarks/serving.py --turns 4 --prefix-share 1 --prefix-tokens 2000 -- --no-prefix-reuse

    Without --url, what follows -- are flags for the hisparse serve that is started and stopped here.
    """
    console = Console(stderr=True)
    try:
        experiment, conversations = _experiment(given), read_lengths(given["lengths"])
        with _target(given) as target, progress(experiment.load, console) as show:
            run = asyncio.run(measure(target, experiment, conversations, show))
        run.about["settings"]["lengths"] = given["lengths"].name
        print_run(run, Console())
        if given["out"] is not None:
            write_json(given["out"], run.to_json())
        if given["plot"] is not None:
            save_picture(run, given["plot"])
    except HiSparseError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}; choose another place") from None
    if failed(run):
        raise click.ClickException("no request was answered; see the messages above")


def _experiment(given: dict[str, Any]) -> Experiment:
    rate = given["rate"] or (None if given["concurrency"] else 1.0)
    number = given["num_requests"] or (None if given["duration"] else 60)
    if given["tokenizer"] is not None and given["api"] == "chat":
        raise LoadError("--tokenizer: chats are text; leave it out, or use --api completions")
    if given["url"] is not None and given["serve_flags"]:
        raise LoadError(
            f"{given['serve_flags'][0]}: the server at --url has its flags already; leave out one of both"
        )
    for flag in ("out", "plot"):
        if given[flag] is not None and not given[flag].parent.is_dir():
            raise LoadError(f"--{flag}: {given[flag].parent} is no folder; make it, or choose another place")
    load = Load(
        rate=rate, num_requests=number,
        **{name: given[name] for name in (
            "concurrency", "duration", "ramp", "turns", "think", "prefix_share", "prefix_documents", "prefix_tokens",
            "seed",
        )},
    )  # fmt: skip
    asking = Asking(**{name: given[name] for name in (
        "api", "temperature", "max_tokens", "stop", "ignore_eos", "timeout", "retries",
    )})  # fmt: skip
    return Experiment(load, asking, Objective(given["slo_ttft"], given["slo_itl"]), given["warm_up"])


@contextmanager
def _target(given: dict[str, Any]) -> Iterator[Target]:
    """Yield the server at ``--url``, or one of our own that ends with the block."""
    key, tokenizer = _api_key(given["api_key_file"]), given["tokenizer"]
    if given["url"] is not None:
        url = given["url"].rstrip("/")
        metrics = given["metrics"] or (f"{url.removesuffix('/v1')}/metrics",)
        yield Target(url, given["model"], key, tuple(metrics), tokenizer)
        return
    from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint

    checkpoint = ensure_demo_checkpoint()
    if tokenizer is None and given["api"] == "completions":
        tokenizer = checkpoint
    with local_server(checkpoint, given["serve_flags"]) as server:
        metrics = given["metrics"] or (f"{server.url.removesuffix('/v1')}/metrics",)
        yield Target(server.url, given["model"], key, tuple(metrics), tokenizer, server.flags)


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        key = path.read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"{path}: cannot be read ({error}); name a file with the key in its first line"
        ) from None
    if not key:
        raise LoadError(f"{path}: its first line is empty; put the key there")
    return key
