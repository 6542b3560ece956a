"""One Grafana's HTTP API: requests with a token, answers as values, failures as sentences. Knows no dashboard.

A request is tried again only where a second one cannot do harm. Redirects are not followed, so that the token never goes
to another host; no message has the token in it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any

ATTEMPTS = 4
BUSY = frozenset({429, 502, 503, 504})
"""Answers after which a safe request is tried again."""
MAX_DELAY_S = 30.0
MAX_ANSWER = 16 << 20
JSON = "application/json"


class GrafanaError(Exception):
    """Grafana cannot be used as asked; the message is one sentence that can be shown as it is."""


class RefusedError(GrafanaError):
    """Grafana answered with an error: ``status`` is HTTP's, ``reason`` and ``kind`` Grafana's own words."""

    def __init__(self, message: str, status: int, reason: str, kind: str, retry_after: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.kind, self.retry_after = status, reason, kind, retry_after


class UnreachableError(GrafanaError):
    """No answer arrived, so nobody knows whether the request was carried out."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


@dataclass(slots=True)
class Grafana:
    """A Grafana at ``url``, which may have a path: a sub-path behind a proxy."""

    url: str
    token: str = field(repr=False)
    ca_file: Path | None = None
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    _opener: urllib.request.OpenerDirector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = checked_url(self.url)
        context = _tls(self.ca_file) if self.url.startswith("https:") else None
        handlers = [_NoRedirect(), *([urllib.request.HTTPSHandler(context=context)] if context else [])]
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, parameters: Mapping[str, str | int]) -> Any:
        """Return what is at ``path``."""
        return self._patiently("GET", f"{path}?{urllib.parse.urlencode(parameters)}", None)

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create something, in one try: a second one could create it twice."""
        return self._once("POST", path, body)

    def put_in_place(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send something that replaces what was there, so that sending it twice is the same as once."""
        return self._patiently("POST", path, body)

    def address(self, path: str) -> str:
        """Return the address for people of ``path``, which Grafana gives with its sub-path or without."""
        parts = urllib.parse.urlsplit(self.url)
        base = parts.path.rstrip("/")
        inside = path if path.startswith(f"{base}/") or not base else base + path
        return f"{parts.scheme}://{parts.netloc}{inside}"

    def _patiently(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            delay = 2.0 ** (attempt - 1)
            try:
                return self._once(method, path, body)
            except UnreachableError as error:
                if attempt == ATTEMPTS or isinstance(error.__cause__, ssl.SSLError | socket.gaierror):
                    raise
            except RefusedError as error:
                if attempt == ATTEMPTS or error.status not in BUSY:
                    raise
                delay = _wanted_delay(error, delay)
            self.sleep(delay)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(f"{self.url}/{path}", method=method)  # noqa: S310  http or https, as checked
        request.add_header("Accept", JSON)
        # Not among the headers that go along to a proxy or a redirect.
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", JSON)
            request.data = json.dumps(body).encode()
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except urllib.error.URLError as error:
            cause = error.reason if isinstance(error.reason, Exception) else error
            raise UnreachableError(self._why(cause)) from cause
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(self._why(error)) from error

    def _read(self, answer: http.client.HTTPResponse) -> Any:
        try:
            return json.loads(answer.read(MAX_ANSWER))
        except ValueError:
            kind = answer.headers.get_content_type()
            raise GrafanaError(
                f"{self.url} answers with {kind}, not with Grafana's API; give the address that ends before /api, with its "
                "sub-path if there is one"
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> RefusedError:
        given: Any = {}
        with contextlib.suppress(ValueError, OSError, http.client.HTTPException):
            given = json.loads(error.read(MAX_ANSWER))
        given = given if isinstance(given, dict) else {}
        reason = str(given.get("message") or error.reason)
        kind, retry_after = str(given.get("status", "")), error.headers.get("Retry-After", "")
        return RefusedError(self._advice(error, reason), error.code, reason, kind, retry_after)

    def _advice(self, error: urllib.error.HTTPError, reason: str) -> str:
        code = error.code
        if 300 <= code < 400:
            return f"{self.url} redirects to {error.headers.get('Location')}; give that address with --url"
        advice = {
            401: "the token is not accepted: it is wrong, expired, or of another Grafana; make a new one for a service account",
            403: "the token may not do this: give its service account the role Editor, or the permission to create folders and "
            "to write dashboards",
            404: "there is no such thing at this address: is the sub-path of --url right?",
        }.get(code)
        said = f"{self.url} answers {code} ({reason})"
        return f"{said}: {advice}" if advice else said

    def _why(self, cause: Exception) -> str:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self.url} is not trusted ({cause.verify_message}); give the certificate of its authority "
                "with --ca-file"
            )
        if isinstance(cause, ssl.SSLError):
            return (
                f"{self.url} does not speak TLS as expected ({cause.reason}); is it http://, or another port?"
            )
        if isinstance(cause, TimeoutError):
            return f"{self.url} did not answer within {self.timeout:g} s; is it the right address, and is Grafana up?"
        if isinstance(cause, socket.gaierror):
            return f"the host of {self.url} is not known ({cause.strerror}); check the address"
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return f"cannot reach {self.url}: {reason}; is it the right address, and is Grafana up?"


def checked_url(url: str) -> str:
    """Return the address without a slash at its end; refuse what is none, or what holds a secret."""
    parts = urllib.parse.urlsplit(url.strip())
    if parts.username is not None or parts.password is not None:
        raise GrafanaError(
            f"the address of {parts.hostname} has a user or password in it; leave it out and use --token-file"
        )
    try:
        good = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise GrafanaError(
            f"{url!r} is not the address of a Grafana; write it as https://grafana.example/sub-path"
        )
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def read_token(path: Path) -> str:
    """Return the token that is alone in a file."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise GrafanaError(f"cannot read the token file {path}: {reason}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise GrafanaError(
            f"{path} must hold one token and nothing else: a Grafana service account's, such as glsa_…"
        )
    return token


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise GrafanaError(f"cannot use --ca-file {ca_file}: {reason}") from error


def _wanted_delay(error: RefusedError, otherwise: float) -> float:
    """Return how long Grafana asks to wait, within reason."""
    asked = error.retry_after
    return min(float(asked), MAX_DELAY_S) if asked.isdigit() else otherwise
