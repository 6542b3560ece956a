"""Command lines out of manifests, read by the very parser that would read them in production."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hisparse_engine.cli import main
from hisparse_engine.settings.reference import entries


def parse(arguments: Sequence[str]) -> dict[str, object]:
    """Parse the arguments of ``hisparse`` and run nothing; fail with click's own words when they are wrong.

    Settings that are not given have their defaults.
    """
    with click.Context(main, info_name="hisparse") as root:
        name, *rest = arguments
        command = main.get_command(root, name)
        assert command is not None, f"hisparse has no command {name!r}"
        try:
            with command.make_context(name, list(rest), parent=root) as context:
                assert not context.args, f"arguments that nobody reads: {context.args}"
                defaults = {entry.spec.name: entry.value for entry in entries()}
                given = {name: value for name, value in context.params.items() if value is not None}
                return {name: defaults.get(name) for name in context.params} | given
        except click.ClickException as error:
            raise AssertionError(f"hisparse {' '.join(arguments)}: {error.format_message()}") from error
