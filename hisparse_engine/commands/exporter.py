"""``hisparse exporter``: the metrics endpoint as a process of its own. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("exporter")
@click.option(
    "--stats-dir",
    type=click.Path(path_type=Path),
    help="Folder with the stats pages.  [default: $HISPARSE_STATS_DIR, else this user's folder in /dev/shm]",
)
@click.option(
    "--listen", default="127.0.0.1:9477", show_default=True, help="HOST:PORT to serve on; port 0: any."
)
@click.option(
    "--retention",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds for which a dead engine is still reported, with up 0 and its last counters.",
)
def command(stats_dir: Path | None, listen: str, retention: float) -> None:
    """Serve the metrics of every engine on this machine to Prometheus, until Ctrl-C.

    \b
    hisparse exporter
    hisparse exporter --stats-dir /dev/shm/hisparse --listen 0.0.0.0:9477
    hisparse exporter --listen '[::1]:0'
    """
    from hisparse_metrics.exporter import serve_pages
    from hisparse_metrics.stats_dir import default_stats_dir

    serve_pages(stats_dir or default_stats_dir(), listen, retention, click.echo)
