"""``hisparse config check``: is this configuration right, and what does it come to? Needs no torch."""

from __future__ import annotations

import json

import click

from hisparse_engine.commands.options import GivenSettings, setting_options
from hisparse_engine.errors import ConfigError
from hisparse_engine.settings.given import SettingsError


@click.command("check")
@click.option(
    "--context",
    "contexts",
    metavar="N,N,…",
    help="Tokens of a request, prompt and answer together.  [default: 8192,32768,131072, as the model allows]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_options("model", "engine", "hisparse", "server", "metrics")
def command(given: GivenSettings, contexts: str | None, as_json: bool) -> None:
    """Validate settings from file, environment and flags, and show what they come to for a checkpoint.

    \b
    hisparse config check --config hisparse.yaml
    hisparse config check --model DIR --host-memory-gib 128 --device-memory-gib 40 --context 32768,131072

    Shows each setting and where it came from, the pools in tokens and bytes, how many requests run at the same time,
    and what is the first to run out. Exit code 2, and every wrong setting at once, when the engine would refuse them.
    Reads the checkpoint's config.json only; without --model, settings are all that is checked.
    """
    from hisparse_engine.settings.report import make_report, parse_contexts

    try:
        resolved = given.resolve(model_required=False)
        report = make_report(resolved, parse_contexts(contexts, resolved.model))
    except SettingsError as error:
        if not as_json:
            raise
        wrong = [
            {"path": ".".join(p.path), "problem": p.text, "origin": p.origin or None} for p in error.problems
        ]
        click.echo(json.dumps({"valid": False, "problems": wrong}))
        raise click.exceptions.Exit(2) from None
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--context") from None
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        from hisparse_engine.settings.tables import print_report

        print_report(report)
