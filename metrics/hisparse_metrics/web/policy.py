"""A web config put to work: what to ask of a connection and of a request. Follows its file as that changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from hisparse_metrics.web.auth import BasicAuth
from hisparse_metrics.web.config import RateLimit, WebConfig
from hisparse_metrics.web.config_file import read_web_config
from hisparse_metrics.web.errors import ExporterError
from hisparse_metrics.web.extra import load_extra
from hisparse_metrics.web.rate_limit import TokenBucket
from hisparse_metrics.web.tls import ServerTls, make_tls

_log = logging.getLogger(__name__)
_Stamps = dict[Path, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules at one moment; without any, everybody may ask everything in the clear."""

    config: WebConfig
    tls: ServerTls | None = None
    auth: BasicAuth | None = None
    bucket: TokenBucket | None = None


class PolicyFile:
    """The policy of a web-config file, read again when it or a file that it names has changed.

    Must be usable at first (:class:`~hisparse_metrics.web.errors.WebConfigError`). What comes later and is not
    usable is logged once, and the last good policy stays. Without a file the policy is open, and stays so.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = Lock()
        self._policy = Policy(WebConfig())
        self._seen: _Stamps = _stamps([path] if path else [])
        self.is_current = True
        if path:
            self._load(path)

    def current(self) -> Policy:
        """Return the policy that holds now."""
        if self.path and self._has_changed():
            with self._lock:
                if self._has_changed():
                    self._reload(self.path)
        return self._policy

    def _has_changed(self) -> bool:
        return _stamps(self._seen) != self._seen

    def _reload(self, path: Path) -> None:
        try:
            self._load(path)
        except ExporterError as error:
            self.is_current = False
            _log.error("%s; the settings before stay in force", error)
            return
        self.is_current = True
        _log.info("web config %s was read again", path)

    def _load(self, path: Path) -> None:
        """Look at each file's stamp before its content, so that a change in between is seen next time."""
        self._seen = _stamps(self._seen)
        config = read_web_config(path)
        self._seen = {path: self._seen[path]} | _stamps(config.files)
        self._policy = _make_policy(config, path, self._policy.bucket)
        for warning in config.warnings:
            _log.warning("web config %s: %s", path, warning)


def _make_policy(config: WebConfig, path: Path, bucket: TokenBucket | None) -> Policy:
    tls = make_tls(config.tls, path) if config.tls else None
    return Policy(config, tls, _make_auth(config), _same_or_new(bucket, config.rate_limit))


def _make_auth(config: WebConfig) -> BasicAuth | None:
    if not config.users:
        return None
    bcrypt = load_extra("bcrypt", package="bcrypt", feature="basic_auth_users in a web config")
    return BasicAuth(config.users, bcrypt.checkpw)


def _same_or_new(bucket: TokenBucket | None, limit: RateLimit | None) -> TokenBucket | None:
    """Keep the bucket as full as it is while its setting stays, so that touching the file refills nothing."""
    if limit is None:
        return None
    return bucket if bucket and bucket.limit == limit else TokenBucket(limit)


def _stamps(paths: Iterable[Path]) -> _Stamps:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
