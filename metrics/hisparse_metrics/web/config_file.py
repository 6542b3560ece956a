"""A web-config file, in exporter-toolkit's format → :class:`~hisparse_metrics.web.config.WebConfig`.

The file is checked as a whole: every problem is named, each with the path of its key.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from hisparse_metrics.web.config import RateLimit, WebConfig
from hisparse_metrics.web.duration import parse_duration
from hisparse_metrics.web.errors import WebConfigError
from hisparse_metrics.web.extra import load_extra
from hisparse_metrics.web.section import Section, kind
from hisparse_metrics.web.tls_section import read_tls

_MAX_BYTES = 1 << 20
_BCRYPT = re.compile(r"\$2[abxy]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)
_COSTS = range(4, 32)
_SLOW_COST = 15
_HEADER_VALUES: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}


def read_web_config(path: Path) -> WebConfig:
    """Read and check ``path``; :class:`WebConfigError` with every problem when it cannot be used."""
    problems: list[str] = []
    warnings: list[str] = []
    root = Section(_load(path), "", problems, warnings)
    config = WebConfig(
        tls=read_tls(root.section("tls_server_config"), path.parent) if "tls_server_config" in root else None,
        headers=_http_headers(root.section("http_server_config")),
        users=_users(root.section("basic_auth_users")),
        auth_excluded_paths=frozenset(root.texts("auth_excluded_paths")),
        rate_limit=_rate_limit(root.section("rate_limit")),
        warnings=(),
    )
    root.finish()
    if problems:
        raise WebConfigError(path, problems)
    return _with_warnings(path, config, warnings)


def _with_warnings(path: Path, config: WebConfig, warnings: list[str]) -> WebConfig:
    secrets = ([path] if config.users else []) + ([config.tls.key_file] if config.tls else [])
    warnings += [f"{secret} can be read by every user; chmod o-r" for secret in secrets if _is_public(secret)]
    if config.users and not config.tls:
        warnings.append("basic_auth_users: passwords travel in the clear without tls_server_config")
    return WebConfig(
        config.tls, config.headers, config.users, config.auth_excluded_paths, config.rate_limit,
        tuple(warnings),
    )  # fmt: skip


def _is_public(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _http_headers(section: Section) -> dict[str, str]:
    if section.flag("http2", False):
        section.warn("http2", "HTTP/2 is not spoken here; clients get HTTP/1.1")
    headers = section.section("headers")
    section.finish()
    return {name: value for name, value in headers.entries().items() if _check_header(headers, name, value)}


def _check_header(section: Section, name: str, value: str) -> bool:
    if name not in _HEADER_VALUES:
        section.reject(name, f"cannot be configured; expected one of {', '.join(_HEADER_VALUES)}")
    elif not value.isascii() or not value.isprintable():
        section.reject(name, "has a character that a header cannot have")
    elif value and _HEADER_VALUES[name] and value not in _HEADER_VALUES[name]:
        section.reject(name, f"got {value!r}, expected one of {', '.join(_HEADER_VALUES[name])}")
    return bool(value)


def _users(section: Section) -> dict[str, str]:
    users = section.entries()
    costs = {cost for name, digest in users.items() if (cost := _check_user(section, name, digest))}
    if len(costs) > 1:
        section.warn("", f"different bcrypt costs {sorted(costs)} let a stranger tell users apart; use one")
    if costs and max(costs) >= _SLOW_COST:
        section.warn("", f"a bcrypt cost of {max(costs)} takes seconds per unknown password; 10 is usual")
    return users


def _check_user(section: Section, name: str, digest: str) -> int:
    """Return the cost of a user's hash, 0 when there is a problem; no message has the hash."""
    if not name or ":" in name:
        section.reject(name, "a user's name cannot be empty or have a colon")
    found = _BCRYPT.fullmatch(digest)
    if found is None or int(found["cost"]) not in _COSTS:
        section.reject(name, "not a bcrypt hash; make one with: htpasswd -nBC 10 '' | tr -d ':\\n'")
        return 0
    return int(found["cost"])


def _rate_limit(section: Section) -> RateLimit | None:
    interval, burst = _interval(section), section.integer("burst", 0)
    section.finish()
    if interval and burst < 1:
        section.reject("burst", f"got {burst}, expected at least 1: no request would ever be answered")
    return RateLimit(interval, burst) if interval else None


def _interval(section: Section) -> float:
    """Return the interval in seconds; 0 turns the limit off, and YAML reads that one as a number."""
    text = "0" if section.peek("interval") in (0, None) else section.text("interval")
    seconds = parse_duration(text)
    if text and seconds is None:
        section.reject("interval", f"got {text!r}, expected a duration such as 1s or 100ms")
    return seconds or 0.0


def _load(path: Path) -> object:
    yaml = load_extra("yaml", package="PyYAML", feature="--web.config.file")
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WebConfigError(path, [error.strerror or str(error)]) from error
    if len(raw) > _MAX_BYTES:
        raise WebConfigError(path, [f"larger than {_MAX_BYTES} bytes"])
    try:
        return yaml.load(raw, Loader=_strict_loader(yaml))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WebConfigError(path, [f"no valid YAML: {_first_words(error)}"]) from error


def _strict_loader(yaml: Any) -> Any:
    """Return a safe loader that refuses a key given twice, of which YAML would silently drop the first."""

    class StrictLoader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for index, key in enumerate(keys):
                if key in keys[:index]:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key!r} is given twice", node.start_mark
                    )
            found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
            return found

    return StrictLoader


def _first_words(error: Exception) -> str:
    """Return a YAML error in one line, without the excerpt of the file, which may have a secret."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f" in line {mark.line + 1}" if mark else ""
    return f"{problem or kind(error)}{where}"
