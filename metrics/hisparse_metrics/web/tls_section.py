"""``tls_server_config`` of a web-config file → :class:`~hisparse_metrics.web.config.TlsConfig`.

What Python's TLS cannot do is refused by name, never ignored.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from hisparse_metrics.web.config import TlsConfig
from hisparse_metrics.web.section import Section

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_TLS13_CIPHERS = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
_INLINE = {key: f"inline PEM is not supported; use {key}_file" for key in ("cert", "key", "client_ca")}


def read_tls(section: Section, folder: Path) -> TlsConfig:
    """Check the section; relative files are relative to ``folder``."""
    client_auth = _client_auth(section)
    config = TlsConfig(
        cert_file=_needed_file(section, "cert_file", folder),
        key_file=_needed_file(section, "key_file", folder),
        client_auth=client_auth,
        client_ca_file=_client_ca(section, folder, client_auth),
        client_allowed_sans=_allowed_sans(section, client_auth),
        min_version=section.choice("min_version", _VERSIONS, "TLS12"),
        max_version=section.choice("max_version", _VERSIONS, "TLS13"),
        ciphers=_ciphers(section),
        prefer_server_ciphers=section.flag("prefer_server_cipher_suites", True),
        curve=_curve(section),
    )
    if config.min_version > config.max_version:
        section.reject("min_version", "is newer than max_version")
    if config.min_version < ssl.TLSVersion.TLSv1_2:
        section.warn("min_version", "TLS before 1.2 is broken; the system's OpenSSL may refuse it anyway")
    section.finish(_INLINE)
    return config


def _needed_file(section: Section, key: str, folder: Path) -> Path:
    name = section.text(key)
    if not name:
        section.reject(key, "missing")
    return folder / name


def _client_auth(section: Section) -> ssl.VerifyMode:
    name = section.text("client_auth_type")
    if name in _UNVERIFIED:
        section.reject(
            "client_auth_type",
            f"{name} would believe any certificate and is not supported; use RequireAndVerifyClientCert",
        )
        return ssl.CERT_NONE
    return section.choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")


def _client_ca(section: Section, folder: Path, client_auth: ssl.VerifyMode) -> Path | None:
    name = section.text("client_ca_file")
    if client_auth != ssl.CERT_NONE and not name:
        section.reject("client_ca_file", "missing; client_auth_type asks for client certificates")
    if client_auth == ssl.CERT_NONE and name:
        section.reject("client_ca_file", "has no effect without client_auth_type: RequireAndVerifyClientCert")
    return folder / name if name else None


def _allowed_sans(section: Section, client_auth: ssl.VerifyMode) -> frozenset[str]:
    names = section.texts("client_allowed_sans")
    if names and client_auth != ssl.CERT_REQUIRED:
        section.reject("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    return frozenset(names)


def _ciphers(section: Section) -> tuple[str, ...]:
    names = section.texts("cipher_suites")
    for index, name in enumerate(names):
        if name in _TLS13_CIPHERS:
            section.warn(f"cipher_suites[{index}]", f"{name} is always on; TLS 1.3 suites cannot be chosen")
        elif name not in _CIPHERS:
            section.reject(f"cipher_suites[{index}]", f"{name!r} is not supported")
    return tuple(_CIPHERS[name] for name in names if name in _CIPHERS)


def _curve(section: Section) -> str | None:
    names = section.texts("curve_preferences")
    if len(names) > 1:
        section.reject("curve_preferences", f"only one curve can be chosen here, got {len(names)}")
    for index, name in enumerate(names):
        if name not in _CURVES:
            section.reject(
                f"curve_preferences[{index}]", f"got {name!r}, expected one of {', '.join(_CURVES)}"
            )
    return _CURVES.get(names[0]) if names else None
