"""The flags of every command that serves metrics, named as exporter-toolkit names them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def web_options(command: Command) -> Command:
    """Add the ``--web.*`` flags; the command gets them as ``web``, a checked ``WebOptions``."""

    @functools.wraps(command)
    def with_web(
        listen: tuple[str, ...], config_file: str, telemetry_path: str, systemd_socket: bool, **others: Any
    ) -> Any:
        from hisparse_metrics.web.options import WebOptions

        web = WebOptions.parse(listen, config_file, telemetry_path, systemd_socket)
        return command(web=web, **others)

    return _decorate(with_web, _WEB_OPTIONS)


def log_options(command: Command) -> Command:
    """Add ``--log.level`` and ``--log.format``, and put them to work before the command runs."""

    @functools.wraps(command)
    def with_logs(log_level: str, log_format: str, **others: Any) -> Any:
        from hisparse_metrics.web.logs import configure_logging

        configure_logging(log_level, log_format)
        return command(**others)

    return _decorate(with_logs, _LOG_OPTIONS)


def _decorate(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


_WEB_OPTIONS = (
    click.option(
        "--web.listen-address",
        "--listen",
        "listen",
        multiple=True,
        default=["127.0.0.1:9477"],
        show_default=True,
        help="HOST:PORT to serve on; port 0: any. May be given several times.",
    ),
    click.option(
        "--web.systemd-socket",
        "systemd_socket",
        is_flag=True,
        help="Serve on the sockets of systemd's socket activation instead.",
    ),
    click.option(
        "--web.config.file",
        "config_file",
        default="",
        metavar="FILE",
        help="YAML file with TLS, users, headers and rate limit; read again when it changes.",
    ),
    click.option(
        "--web.telemetry-path",
        "telemetry_path",
        default="/metrics",
        show_default=True,
        help="Path of the metrics.",
    ),
)

_LOG_OPTIONS = (
    click.option(
        "--log.level",
        "log_level",
        type=click.Choice(["debug", "info", "warn", "error"]),
        default="info",
        show_default=True,
        help="Lowest level to log, on standard error.",
    ),
    click.option(
        "--log.format",
        "log_format",
        type=click.Choice(["logfmt", "json"]),
        default="logfmt",
        show_default=True,
        help="Of the log.",
    ),
)
