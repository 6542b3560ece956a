"""Certificates, passwords and exporters for the web tests."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.options import WebOptions


class Answer(NamedTuple):
    """Of an answer what the tests look at."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Authority:
    """A certificate authority in a folder, made with the openssl program; the test is skipped without it."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not on PATH, so no certificate can be made")
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(*_NEW, "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=test authority")

    def issue(self, name: str, san: str = "DNS:localhost,IP:127.0.0.1", into: str = "") -> tuple[Path, Path]:
        """Write a certificate and its key into files named after ``into``; return both."""
        certificate, key = (self._folder / f"{into or name}.{suffix}" for suffix in ("pem", "key"))
        signing = ("-CA", self.certificate, "-CAkey", self._key, "-addext", f"subjectAltName={san}")
        fresh = [self._folder / f"fresh.{suffix}" for suffix in ("pem", "key")]
        _openssl(*_NEW, "-keyout", fresh[1], "-out", fresh[0], "-subj", f"/CN={name}", *signing)
        fresh[1].replace(key)
        fresh[0].replace(certificate)
        return certificate, key

    def client_context(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority."""
        context = ssl.create_default_context(cafile=self.certificate)
        if certificate:
            context.load_cert_chain(*certificate)
        return context


_NEW = (
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
)  # fmt: skip


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@cache
def bcrypt_hash(password: str, cost: int = 4) -> str:
    bcrypt = pytest.importorskip("bcrypt")
    hashed: bytes = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))
    return hashed.decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def exporter_of(folder: Path, config: str) -> Exporter:
    """Return an exporter, not yet started, of an empty stats folder under a web config."""
    path = folder / "web.yaml"
    path.write_text(config)
    path.chmod(0o600)
    web = WebOptions(listen=(("127.0.0.1", 0),), config_file=path)
    return Exporter(PageCollector(PageFolder(folder / "stats")), web=web)


def get(url: str, *, context: ssl.SSLContext | None = None, **headers: str) -> Answer:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())
