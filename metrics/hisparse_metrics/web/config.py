"""A validated web config as values; knows neither YAML nor sockets."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """``tls_server_config``: which certificate to show, and which clients to believe."""

    cert_file: Path
    key_file: Path
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_file: Path | None = None
    client_allowed_sans: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the configuration names."""
        return (self.cert_file, self.key_file, *filter(None, [self.client_ca_file]))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``rate_limit``: one request per ``interval`` seconds, and ``burst`` of them at once."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """A whole web-config file. ``warnings`` is what a person should know although it is no error."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth_excluded_paths: frozenset[str] = frozenset()
    rate_limit: RateLimit | None = None
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the configuration names."""
        return self.tls.files if self.tls else ()
