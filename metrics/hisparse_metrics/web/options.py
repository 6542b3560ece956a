"""How an endpoint is to be served, as a program or a command line asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hisparse_metrics.web.errors import ExporterError
from hisparse_metrics.web.limits import Limits
from hisparse_metrics.web.listen import parse_listen

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9477
DEFAULT_LISTEN = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
DEFAULT_TELEMETRY_PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Addresses (host, port; port 0: any free one), web-config file, path of the metrics, limits."""

    listen: tuple[tuple[str, int], ...] = ((DEFAULT_HOST, DEFAULT_PORT),)
    config_file: Path | None = None
    telemetry_path: str = DEFAULT_TELEMETRY_PATH
    systemd_socket: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        path = self.telemetry_path
        if not path.startswith("/") or not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
            raise ExporterError(
                f"cannot serve metrics under {path!r}: expected a path such as {DEFAULT_TELEMETRY_PATH}; "
                "choose another with --web.telemetry-path"
            )

    @classmethod
    def parse(
        cls, listen: tuple[str, ...], config_file: str, telemetry_path: str, systemd_socket: bool
    ) -> WebOptions:
        """Make options of what a command line has; :class:`ExporterError` names what cannot be used."""
        return cls(
            tuple(parse_listen(text) for text in listen),
            Path(config_file) if config_file else None,
            telemetry_path,
            systemd_socket,
        )  # fmt: skip
