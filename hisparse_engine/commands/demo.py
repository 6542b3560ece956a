"""``hisparse demo``: the main job on an embedded default, on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hisparse_engine.commands.options import GivenSettings, setting_options
from hisparse_engine.commands.web_options import web_options

if TYPE_CHECKING:
    from hisparse_metrics.web.options import WebOptions

# A small model leaves little to share out among threads, and lines should come often enough to watch.
_DEFAULTS = {"decode_log_interval": 10, "prefill_chunk_size": 256, "threads": 1, "verify_every": 16}


@click.command("demo", context_settings={"default_map": _DEFAULTS})
@click.option(
    "--duration", type=click.FloatRange(min=0), help="Stop after this many seconds.  [default: Ctrl-C]"
)
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
@setting_options("model", "engine", "hisparse", "metrics")
def command(
    given: GivenSettings,
    duration: float | None,
    web: WebOptions,
    concurrency: int,
    prompt_tokens: int,
    max_new_tokens: int,
) -> None:
    """Decode long prompts of real text without end, with metrics on an HTTP port and decode log lines.

    \b
    hisparse demo
    hisparse demo --duration 60 --decode-log-interval 1
    hisparse demo --host-tokens 8192 --concurrency 12 --web.listen-address 127.0.0.1:0
    hisparse demo --web.listen-address 0.0.0.0:9477 --web.config.file web.yaml
    """
    from hisparse_engine.demo.load import Load
    from hisparse_engine.demo.run import DemoOptions, demo_shapes, run_demo

    resolved = given.resolve(model_required=False, model=demo_shapes())
    metrics, load = resolved.settings.metrics, Load(concurrency, prompt_tokens, max_new_tokens)
    options = DemoOptions(
        resolved.settings.model, duration, web, metrics.stats_dir, metrics.engine_name or "demo", load
    )
    run_demo(options, resolved.engine_fields, resolved.tier_fields)
