"""``hisparse demo``: the main job on an embedded default, on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hisparse_engine.commands.options import engine_options, split_settings
from hisparse_engine.commands.web_options import web_options

if TYPE_CHECKING:
    from hisparse_metrics.web.options import WebOptions

# A small model leaves little to share out among threads, and lines should come often enough to watch.
_DEFAULTS = {"decode_log_interval": 10, "prefill_chunk_size": 256, "threads": 1, "verify_every": 16}


@click.command("demo", context_settings={"default_map": _DEFAULTS})
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    envvar="HISPARSE_MODEL",
    help="Checkpoint folder with a tokenizer.json.  [default: a small one, made in the cache folder]",
)
@click.option(
    "--duration", type=click.FloatRange(min=0), help="Stop after this many seconds.  [default: Ctrl-C]"
)
@click.option(
    "--stats-dir",
    type=click.Path(path_type=Path),
    help="Folder for the stats page.  [default: $HISPARSE_STATS_DIR, else this user's folder in /dev/shm]",
)
@click.option("--engine-name", default="demo", show_default=True, help="Tells engines of one host apart.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Clients, each sending its next prompt when its last one is answered.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=8),
    default=2048,
    show_default=True,
    help="Longest prompt; lengths vary from a quarter of it.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Longest answer; lengths vary from a quarter of it.",
)
@web_options
@engine_options
def command(
    model: Path | None,
    duration: float | None,
    web: WebOptions,
    stats_dir: Path | None,
    engine_name: str,
    concurrency: int,
    prompt_tokens: int,
    max_new_tokens: int,
    **settings: Any,
) -> None:
    """Decode long prompts of real text without end, with metrics on an HTTP port and decode log lines.

    \b
    hisparse demo
    hisparse demo --duration 60 --decode-log-interval 1
    hisparse demo --host-tokens 8192 --concurrency 12 --web.listen-address 127.0.0.1:0
    hisparse demo --web.listen-address 0.0.0.0:9477 --web.config.file web.yaml
    """
    from hisparse_engine.demo.load import Load
    from hisparse_engine.demo.run import DemoOptions, run_demo

    load = Load(concurrency, prompt_tokens, max_new_tokens)
    engine_fields, tier_fields = split_settings(settings)
    run_demo(DemoOptions(model, duration, web, stats_dir, engine_name, load), engine_fields, tier_fields)
