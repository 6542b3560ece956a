"""The ``hisparse`` command: parses, calls, prints. Every heavy import waits until its command runs."""

from __future__ import annotations

import importlib
from typing import Any

import click

from hisparse_engine import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_COMMANDS = {
    "config": ("hisparse_engine.commands.config", "Check a configuration, or print one to start from."),
    "dashboards": (
        "hisparse_engine.commands.dashboards",
        "Build Grafana dashboards and Prometheus rules; put the dashboards into a Grafana.",
    ),
    "demo": (
        "hisparse_engine.commands.demo",
        "Run a small model on this machine, with metrics and decode logs.",
    ),
    "exporter": (
        "hisparse_engine.commands.exporter",
        "Serve every engine's metrics on this machine to Prometheus.",
    ),
    "generate": (
        "hisparse_engine.commands.generate",
        "Decode prompts with a checkpoint and print the result.",
    ),
    "plan": ("hisparse_engine.commands.plan", "Work out what a machine's memory holds of a model."),
    "serve": ("hisparse_engine.commands.serve", "Serve a checkpoint over OpenAI's HTTP API."),
    "sidecar": ("hisparse_engine.commands.sidecar", "Turn another engine's log into the same metrics."),
    "top": ("hisparse_engine.commands.top", "Show where every rank's tokens are, live in a terminal."),
}

_ENGINE_PACKAGES = frozenset({"torch", "numpy", "pydantic", "rich", "safetensors", "tokenizers"})


class _LazyGroup(click.Group):
    """Loads a command's module when it is asked for; turns a person's mistakes into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in sorted(_COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = _explain(error)
            if message is None:
                raise
            raise click.ClickException(message) from None


def _explain(error: Exception) -> str | None:
    """Return the line to print for an error that a person can mend, else None."""
    if isinstance(error, ModuleNotFoundError) and error.name in _ENGINE_PACKAGES:
        return f"{error.name} is not installed: this command needs the engine; run: pip install 'hisparse[engine]'"
    from hisparse_engine.errors import HiSparseError
    from hisparse_metrics.exporter import ExporterError
    from hisparse_metrics.page_claim import PageInUseError
    from hisparse_metrics.stats_dir import StatsDirError
    from hisparse_metrics.top.reading import ReadError, TopError

    known = (HiSparseError, ExporterError, PageInUseError, StatsDirError, ReadError, TopError)
    return str(error) if isinstance(error, known) else None


@click.group(cls=_LazyGroup, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="hisparse")
def main() -> None:
    """Decode with a two-tier KV cache, and see where every token is."""
