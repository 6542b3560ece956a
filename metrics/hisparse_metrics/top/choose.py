"""Which source, when the user names none: the exporter on its usual port, else this user's stats folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hisparse_metrics.stats_dir import ENV_STATS_DIR, default_stats_dir
from hisparse_metrics.top.pages import PageSource
from hisparse_metrics.top.reading import ReadError, Source, TopError
from hisparse_metrics.top.url import UrlSource, parse_address
from hisparse_metrics.web.options import DEFAULT_HOST, DEFAULT_PORT

_PROBE_SECONDS = 1.0
DEFAULT_URL = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}/metrics"


def choose_source(
    url: str | None,
    stats_dir: Path | None,
    *,
    ca_file: Path | None = None,
    password_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    default_url: str = DEFAULT_URL,
) -> Source:
    """Return what the user asked for; :class:`TopError` for what contradicts itself.

    A folder in ``HISPARSE_STATS_DIR`` is as good as one that was named.
    """
    if url and stats_dir:
        raise TopError(
            f"give an address or --stats-dir, not both: got {url.rpartition('@')[2]} and {stats_dir}"
        )
    if url:
        return UrlSource(parse_address(url, password_file), ca_file)
    if ca_file or password_file:
        raise TopError("--ca-file and --password-file belong to an address, and none was given")
    if stats_dir or environ.get(ENV_STATS_DIR):
        return PageSource(stats_dir or default_stats_dir(environ))
    return _exporter_here(default_url) or PageSource(default_stats_dir(environ))


def _exporter_here(url: str) -> Source | None:
    """Return the exporter on this machine if one answers with ranks."""
    try:
        ranks = UrlSource(parse_address(url), timeout=_PROBE_SECONDS).read().ranks
    except ReadError:
        return None
    return UrlSource(parse_address(url)) if ranks else None
