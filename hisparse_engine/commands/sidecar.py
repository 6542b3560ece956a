"""``hisparse sidecar``: metrics of engines that have only a log. Needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hisparse_engine.commands.web_options import log_options, web_options

if TYPE_CHECKING:
    from hisparse_metrics.sidecar.config import SidecarConfig
    from hisparse_metrics.sidecar.config import WebConfig as Web
    from hisparse_metrics.web.options import WebOptions

_SUBCOMMANDS = {
    "parse": "Print each record of a log as JSON.",
    "check": "Validate a configuration; show what each source matches now.",
    "replay": "Replay a log by its own timestamps into /metrics.",
    "report": "Print one page on a log: peaks, time above thresholds, failures.",
}

_PATTERNS = ("--sglang-log", "--cri")


class _SidecarGroup(click.Group):
    """Loads a subcommand's module when it is asked for; without a subcommand, follows and serves."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _SUBCOMMANDS:
            return None
        command = importlib.import_module(f"hisparse_engine.commands.sidecar_{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUBCOMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_unexpanded(args)))

    def invoke(self, ctx: click.Context) -> Any:
        from hisparse_metrics.sidecar.config import SidecarError

        try:
            return super().invoke(ctx)
        except SidecarError as error:
            raise click.ClickException(str(error)) from None


def _unexpanded(args: list[str]) -> Iterator[str]:
    """Repeat ``--sglang-log`` before each file that the shell made of its unquoted pattern; so for ``--cri``."""
    option, has_value = "", False
    for arg in args:
        if has_value and option and not arg.startswith("-") and arg not in _SUBCOMMANDS:
            yield option
        elif arg.startswith("--"):
            option, has_value = (arg if arg in _PATTERNS else ""), False
            yield arg
            continue
        has_value = True
        yield arg


@click.group("sidecar", cls=_SidecarGroup, invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML or JSON configuration.",
)
@click.option(
    "--sglang-log",
    multiple=True,
    metavar="GLOB|-",
    help="Logs to follow; -: standard input. May be repeated.",
)
@click.option(
    "--cri", multiple=True, metavar="GLOB", help="Container logs to follow, as Kubernetes writes them."
)
@click.option("--journald-unit", multiple=True, metavar="UNIT", help="systemd unit whose journal to follow.")
@click.option("--model", metavar="NAME", help="Value of the label model_name.")
@click.option(
    "--engine-name",
    metavar="NAME",
    help="Value of the label engine_name.  [default: the pod's name, else sglang]",
)
@click.option(
    "--stats-dir", type=click.Path(path_type=Path), help="Serve the stats pages of this folder as well."
)
@click.option(
    "--state-file",
    type=click.Path(path_type=Path),
    help="Remember positions and counters here over a restart.",
)
@click.option(
    "--from-start", is_flag=True, default=None, help="Read logs from their beginning at the first start."
)
@click.option(
    "--stale-after", type=float, metavar="SECONDS", help="Age at which a level disappears.  [default: 60]"
)
@click.option("--tee", is_flag=True, help="Pass standard input on to standard output, unchanged.")
@web_options
@log_options
@click.pass_context
def command(
    ctx: click.Context, /, tee: bool, web: WebOptions, config_path: Path | None, **flags: Any
) -> None:
    """Turn an engine's log into metrics, and serve them to Prometheus until Ctrl-C.

    \b
    hisparse sidecar --sglang-log '/var/log/sglang/*.log' --model glm-5
    python -m sglang.launch_server ... 2>&1 | hisparse sidecar --sglang-log - --tee
    hisparse sidecar --cri '/var/log/pods/*/*/*.log' --state-file /var/lib/hisparse/sidecar.json
    hisparse sidecar --journald-unit sglang --stats-dir /dev/shm/hisparse
    hisparse sidecar --config sidecar.yaml
    """
    if ctx.invoked_subcommand is not None:
        return
    from hisparse_metrics.sidecar.run import run_sidecar

    config = configured(config_path, flags).check()
    if tee and not config.sources.stdin:
        raise click.UsageError("--tee passes standard input on: it needs --sglang-log -")
    run_sidecar(config, _with_config(ctx, web, config.web), _announce, tee=tee)


def configured(path: Path | None, flags: dict[str, Any]) -> SidecarConfig:
    """Return the file's configuration with the flags over it."""
    from hisparse_metrics.sidecar.config import SidecarConfig
    from hisparse_metrics.sidecar.config_file import load_config

    base = load_config(path) if path else SidecarConfig()
    sections = {"sources": ("sglang_log", "cri", "journald_unit"), "labels": ("model", "engine_name")}
    data = {section: {name: flags.pop(name, None) for name in names} for section, names in sections.items()}
    return base.merged(data | {name: value for name, value in flags.items() if value is not None})


def _with_config(ctx: click.Context, web: WebOptions, config: Web) -> WebOptions:
    """Return the web options with the configuration's values where no flag was given."""
    from hisparse_metrics.web.listen import parse_listen

    values: dict[str, Any] = {
        "listen": tuple(map(parse_listen, config.listen_address)),
        "config_file": Path(config.config_file) if config.config_file else None,
        "telemetry_path": config.telemetry_path,
    }
    default = click.core.ParameterSource.DEFAULT
    return replace(
        web, **{name: v for name, v in values.items() if v and ctx.get_parameter_source(name) is default}
    )


def _announce(line: str) -> None:
    """Tell the user; never on standard output, which may be the engine's."""
    click.echo(line, err=True)
