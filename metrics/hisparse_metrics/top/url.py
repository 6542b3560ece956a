"""An exporter's address as a source: one HTTP request a read. TLS and basic authentication as Prometheus has them."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from hisparse_metrics.top.exposition import parse
from hisparse_metrics.top.reading import ReadError, Reading, TopError

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 64 << 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {"Accept": "text/plain;version=0.0.4", "User-Agent": "hisparse-top"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask, and as whom. ``url`` never holds the user or the password."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)


def parse_address(text: str, password_file: Path | None = None) -> Address:
    """Complete ``HOST:PORT`` to ``http://HOST:PORT/metrics``; :class:`TopError` when it cannot be an address."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise TopError(
            f"cannot read {_shown(text)!r}: not an address; "
            "give http://HOST:PORT, https://HOST:PORT/PATH or HOST:PORT"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    url = urlunsplit(
        (parts.scheme, netloc, parts.path if parts.path.strip("/") else "/metrics", parts.query, "")
    )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if password_file is None:
        return Address(url, user, password)
    if not user or password:
        raise TopError(
            "--password-file needs a user and no password in the address: give https://USER@HOST:PORT"
        )
    return Address(url, user, _password(password_file))


class UrlSource:
    """The ranks of one exposition. ``ca_file`` is trusted instead of the system's authorities."""

    def __init__(
        self, address: Address, ca_file: Path | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._address = address
        self._timeout = timeout
        handlers: list[urllib.request.BaseHandler] = []
        if urlsplit(address.url).hostname in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        if ca_file is not None:
            handlers.append(urllib.request.HTTPSHandler(context=_trusting(ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def about(self) -> str:
        """The address."""
        return self._address.url

    def read(self) -> Reading:
        """Ask once."""
        text, is_page = self._fetch()
        try:
            ranks = parse(text)
        except (ValueError, KeyError) as error:
            raise ReadError(f"{self.about} answers with metrics that cannot be parsed: {error}") from None
        if is_page and not ranks:
            raise ReadError(f"{self.about} answers with a page for browsers, not with metrics")
        note = "" if ranks else f"{self.about} has no HiSparse metrics yet"
        return Reading(time.time(), time.monotonic(), ranks, note)

    def _fetch(self) -> tuple[str, bool]:
        """Return the body, and whether it is HTML."""
        request = urllib.request.Request(self.about, headers=_HEADERS)  # noqa: S310 - http(s) only, see parse_address
        if self._address.user:
            pair = f"{self._address.user}:{self._address.password}".encode()
            # Unredirected: another host that this one points to must not learn the password.
            request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                body = answer.read(MAX_BYTES + 1)
                is_page = answer.headers.get_content_type() == "text/html"
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ReadError(f"cannot read {self.about}: {_reason(error, self._timeout)}") from None
        if len(body) > MAX_BYTES:
            raise ReadError(f"{self.about} answers with more than {MAX_BYTES >> 20} MiB")
        return body.decode(errors="replace"), is_page


def _reason(error: Exception, timeout: float) -> str:
    """Say what went wrong, and what to do where that is known."""
    if isinstance(error, urllib.error.HTTPError):
        return _STATUS.get(error.code, f"it answers {error.code} {error.reason}")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message}); name its authority with --ca-file"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection ({cause.reason or cause}); is it http:// instead?"
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused; nothing listens there"
    if isinstance(cause, socket.gaierror):
        return "no such host"
    if isinstance(cause, http.client.HTTPException | ConnectionResetError):
        return "it does not speak HTTP; is it https:// instead?"
    return str(getattr(cause, "strerror", None) or cause)


_STATUS = {
    401: "it asks for another user or password (401); give https://USER@HOST:PORT and --password-file FILE",
    403: "access is denied (403)",
    404: "no metrics under this path (404)",
}


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        reason = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise TopError(f"cannot use --ca-file {ca_file}: {reason}") from None


def _password(path: Path) -> str:
    try:
        return path.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise TopError(f"cannot read --password-file {path}: {reason}") from None


def _shown(text: str) -> str:
    """Return an address without what stands before its ``@``."""
    return text.rpartition("@")[2]
