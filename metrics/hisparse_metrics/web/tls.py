"""The TLS side of a connection, made once per configuration."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hisparse_metrics.web.config import TlsConfig
from hisparse_metrics.web.errors import WebConfigError


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How to secure a connection, and whom to let in; no names means everybody whose certificate is good."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str]

    def check_client(self, connection: ssl.SSLSocket) -> None:
        """Raise :class:`ssl.SSLError` when the client's certificate has none of the allowed names."""
        if not self.allowed_sans:
            return
        certificate: dict[str, Any] = connection.getpeercert() or {}
        if self.allowed_sans.isdisjoint(name for _, name in certificate.get("subjectAltName", ())):
            raise ssl.SSLError("the client's certificate has no allowed name")


def make_tls(config: TlsConfig, path: Path) -> ServerTls:
    """Load what the web config ``path`` names; :class:`WebConfigError` when a file is no good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version, context.maximum_version = config.min_version, config.max_version
    if not config.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if config.ciphers:
        context.set_ciphers(":".join(config.ciphers))
    if config.curve:
        context.set_ecdh_curve(config.curve)
    _load_certificate(context, config, path)
    _load_client_ca(context, config, path)
    return ServerTls(context, config.client_allowed_sans)


def _load_certificate(context: ssl.SSLContext, config: TlsConfig, path: Path) -> None:
    for key, file in (("cert_file", config.cert_file), ("key_file", config.key_file)):
        _check_readable(file, key, path)
    try:
        context.load_cert_chain(config.cert_file, config.key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise WebConfigError(
            path,
            [f"tls_server_config: {config.cert_file} and {config.key_file} are no pair: {_reason(error)}"],
        ) from error


def _load_client_ca(context: ssl.SSLContext, config: TlsConfig, path: Path) -> None:
    context.verify_mode = config.client_auth
    if config.client_ca_file is None:
        return
    _check_readable(config.client_ca_file, "client_ca_file", path)
    try:
        context.load_verify_locations(config.client_ca_file)
    except ssl.SSLError as error:
        reason = f"tls_server_config.client_ca_file: {config.client_ca_file}: {_reason(error)}"
        raise WebConfigError(path, [reason]) from error


def _check_readable(file: Path, key: str, path: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise WebConfigError(path, [f"tls_server_config.{key}: {file}: {error.strerror}"]) from error


def _no_password() -> NoReturn:
    """Stand in for the prompt that OpenSSL would show, and wait for, on the terminal."""
    raise ValueError("the key is encrypted, which is not supported")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
