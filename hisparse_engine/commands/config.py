"""``hisparse config``: what a configuration comes to, and what one looks like. Loads no weights."""

from __future__ import annotations

import importlib
from typing import Any

import click

from hisparse_engine.errors import HiSparseError

_SUBCOMMANDS = {
    "check": "Validate the settings; show what they come to, and what runs out first.",
    "init": "Print a hisparse.yaml with every setting, its default and its meaning.",
}


class _Refused(click.ClickException):
    exit_code = 2


class _ConfigGroup(click.Group):
    """Loads a subcommand's module when it is asked for; a wrong configuration is exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _SUBCOMMANDS:
            return None
        command = importlib.import_module(f"hisparse_engine.commands.config_{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUBCOMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HiSparseError as error:
            raise _Refused(str(error)) from None


@click.group("config", cls=_ConfigGroup)
def command() -> None:
    """Look at a configuration before anything is started with it."""
