"""``hisparse sidecar replay``: a finished log as live metrics. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hisparse_engine.commands.web_options import log_options, web_options

if TYPE_CHECKING:
    from hisparse_metrics.web.options import WebOptions


@click.command("replay")
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds of the log per second.",
)
@click.option("--model", default="", help="Value of the label model_name.")
@click.option("--engine-name", default="", help="Value of the label engine_name.  [default: sglang]")
@click.option(
    "--stale-after",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds of the log after which a level disappears.",
)
@click.option(
    "--once", is_flag=True, help="Exit at the end of the log instead of serving its end until Ctrl-C."
)
@web_options
@log_options
def command(
    log: Path, speed: float, model: str, engine_name: str, stale_after: float, once: bool, web: WebOptions
) -> None:
    """Replay FILE by its own timestamps into /metrics, so that dashboards can be tried on a past incident.

    The times that are exported are those of now, not those of the log.

    \b
    hisparse sidecar replay last-night.log --speed 60
    """
    from hisparse_metrics.sidecar.labels import EngineLabels
    from hisparse_metrics.sidecar.run_replay import run_replay

    labels = EngineLabels(model, engine_name)
    run_replay(log, speed, labels, stale_after, web, lambda line: click.echo(line, err=True), once=once)
