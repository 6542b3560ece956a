"""``hisparse sidecar check``: is this configuration right, and what does it match here and now? Needs no torch."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("check")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
def command(path: Path) -> None:
    """Validate the configuration FILE, then show what each source matches now and the last record read from it.

    Exit code 1, and every wrong field at once, when the sidecar would refuse it.

    \b
    hisparse sidecar check sidecar.yaml
    """
    from hisparse_metrics.sidecar.check import describe
    from hisparse_metrics.sidecar.config_file import load_config

    for line in describe(load_config(path).check()):
        click.echo(line)
