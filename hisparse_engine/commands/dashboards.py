"""``hisparse dashboards``: build dashboards and rules for a deployment, and put the dashboards into a Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_EXTRA = frozenset({"grafana_foundation_sdk", "pydantic", "yaml"})

_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE.yaml",
    help="Thresholds, windows and labels of this deployment.  [default: those of the repository]",
)


class _DashboardsGroup(click.Group):
    """Turns a person's mistakes, and a missing extra, into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            message = f"{error.name} is not installed: this command needs pip install 'hisparse[dashboards]'"
            raise click.ClickException(message) from None


@click.group("dashboards", cls=_DashboardsGroup)
def command() -> None:
    """Build the dashboards, rules and Alertmanager's configuration; put the dashboards into a Grafana."""


@command.command("build")
@_config
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder to write to: dashboards/, prometheus/rules/, alertmanager/.  [default: this repository's own files]",
)
@click.option(
    "--check", is_flag=True, help="Write nothing; show what differs, and exit with 1 if anything does."
)
def build(config_path: Path | None, out: Path | None, check: bool) -> None:
    """Write the dashboards, the recording and alerting rules, and Alertmanager's configuration.

    \b
    hisparse dashboards build --config monitoring.yaml --out /etc/hisparse
    hisparse dashboards build --config monitoring.yaml --out /etc/hisparse --check
    hisparse dashboards build --check          # in a checkout: are the committed files fresh?
    """
    from hisparse_dashboards import generate
    from hisparse_dashboards.__main__ import build_in_repository
    from hisparse_dashboards.config_file import ConfigFileError, load

    try:
        config = load(config_path)
    except ConfigFileError as error:
        raise click.ClickException(str(error)) from None
    if out is None:
        if not (Path("pyproject.toml").exists() and Path("dashboards/generated").is_dir()):
            raise click.UsageError(
                "this folder is no checkout of HiSparse: say where to write with --out DIR"
            )
        raise SystemExit(build_in_repository(Path(), config, check=check, say=click.echo))
    wanted = generate.deployed(config)
    if check:
        raise SystemExit(0 if generate.check(out, wanted, click.echo) else 1)
    try:
        for path in generate.write(out, wanted):
            click.echo(str(out / path))
    except OSError as error:
        raise click.ClickException(
            f"cannot write {error.filename}: {error.strerror}; choose another --out"
        ) from None


@command.command("push")
@click.option(
    "--url", required=True, envvar="HISPARSE_GRAFANA_URL", help="Address of the Grafana, with its sub-path."
)
@click.option(
    "--token-file",
    required=True,
    envvar="HISPARSE_GRAFANA_TOKEN_FILE",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with a service account's token (role Editor), and nothing else.",
)
@click.option(
    "--folder", default="HiSparse", show_default=True, help="Grafana's folder; made where it is missing."
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PEM certificates to trust instead of the system's.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds to wait for an answer.",
)
@_config
def push(
    url: str, token_file: Path, folder: str, ca_file: Path | None, timeout: float, config_path: Path | None
) -> None:
    """Put the dashboards into a folder of a Grafana, over what is there; links and their panels' ids stay.

    \b
    hisparse dashboards push --url https://grafana.example --token-file token
    hisparse dashboards push --url https://example/grafana --token-file token --folder Inference --ca-file ca.pem

    Exit code 1 when a dashboard could not be saved. The token is never printed.
    """
    from hisparse_dashboards import generate, layout
    from hisparse_dashboards.config_file import ConfigFileError, load
    from hisparse_dashboards.grafana_api import Grafana, GrafanaError, read_token
    from hisparse_dashboards.push import push as push_all

    try:
        boards = [layout.as_json(board) for board in generate.every_dashboard(load(config_path))]
        grafana = Grafana(url, read_token(token_file), ca_file, timeout)
        failures = push_all(grafana, folder, boards, click.echo)
    except (ConfigFileError, GrafanaError) as error:
        raise click.ClickException(str(error)) from None
    if failures:
        raise click.ClickException(f"{len(failures)} of {len(boards)} dashboards were not saved, see above")
