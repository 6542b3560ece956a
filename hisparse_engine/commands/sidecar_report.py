"""``hisparse sidecar report``: one page on a log. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click


@click.command("report")
@click.argument("log", type=click.File("rb"), metavar="FILE|-")
@click.option(
    "--png",
    type=click.Path(path_type=Path),
    help="Write the usages as a picture as well; needs matplotlib: pip install 'hisparse[report]'.",
)
def command(log: BinaryIO, png: Path | None) -> None:
    """Print one page on FILE: peaks of the usages with their times, time above thresholds, failures, a plot.

    \b
    hisparse sidecar report /var/log/sglang/server.log
    zcat server.log.1.gz | hisparse sidecar report -
    """
    from hisparse_metrics.sidecar.report import render
    from hisparse_metrics.sidecar.summary import summarise

    summary = summarise(log)
    click.echo(render(summary, log.name), nl=False)
    if png:
        from hisparse_metrics.sidecar.picture import save_picture

        save_picture(summary, log.name, png)
        click.echo(f"wrote {png}", err=True)
