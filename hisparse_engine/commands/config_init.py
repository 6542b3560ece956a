"""``hisparse config init``: a settings file to start from, on standard output. Needs no torch."""

from __future__ import annotations

import click


@click.command("init")
def command() -> None:
    """Print a hisparse.yaml with every setting: its meaning, its default, and how to change it.

    \b
    hisparse config init > hisparse.yaml
    """
    from hisparse_engine.settings.reference import as_yaml

    click.echo(as_yaml(), nl=False)
