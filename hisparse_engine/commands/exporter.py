"""``hisparse exporter``: the metrics endpoint as a process of its own. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hisparse_engine.commands.web_options import log_options, web_options

if TYPE_CHECKING:
    from hisparse_metrics.web.options import WebOptions


@click.command("exporter")
@click.option(
    "--stats-dir",
    type=click.Path(path_type=Path),
    help="Folder with the stats pages.  [default: $HISPARSE_STATS_DIR, else this user's folder in /dev/shm]",
)
@click.option(
    "--retention",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds for which a dead engine is still reported, with up 0 and its last counters.",
)
@web_options
@log_options
def command(stats_dir: Path | None, retention: float, web: WebOptions) -> None:
    """Serve the metrics of every engine on this machine to Prometheus, until Ctrl-C.

    \b
    hisparse exporter
    hisparse exporter --stats-dir /dev/shm/hisparse --listen 0.0.0.0:9477
    hisparse exporter --listen '[::1]:0'
    hisparse exporter --web.listen-address 0.0.0.0:9477 --web.config.file web.yaml
    """
    from hisparse_metrics.exporter import serve_pages
    from hisparse_metrics.stats_dir import default_stats_dir
    from hisparse_metrics.web.arenas import use_one_arena

    use_one_arena()
    serve_pages(stats_dir or default_stats_dir(), web, retention, click.echo)
