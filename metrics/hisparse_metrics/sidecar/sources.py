"""From a configuration to the sources that it names."""

from __future__ import annotations

from collections.abc import Sequence

from hisparse_metrics.follow.journald import JournalSource
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.source import Source
from hisparse_metrics.follow.watch import FileSource
from hisparse_metrics.sidecar.config import SidecarConfig
from hisparse_metrics.sidecar.drain import DrainedPipe

FILES = "files"
"""All files are one source, so that a file that two patterns match is read once; positions outlive new patterns."""

JOURNAL = "journald:"
_STDOUT = 1


def make_sources(config: SidecarConfig, *, tee: bool) -> list[Source]:
    """Return a source for the files, one for each unit, and one for standard input, as configured."""
    sources: list[Source] = []
    if patterns := file_patterns(config):
        sources.append(FileSource(FILES, patterns, options=FollowOptions(from_start=config.from_start)))
    sources += [
        JournalSource(f"{JOURNAL}{unit}", unit, from_start=config.from_start)
        for unit in config.sources.journald_unit
    ]
    if config.sources.stdin:
        sources.append(DrainedPipe(tee_fd=_STDOUT if tee else None))
    return sources


def file_patterns(config: SidecarConfig) -> tuple[str, ...]:
    """Return every pattern of files; the parser tells CRI's envelope from a plain line by itself."""
    return tuple(dict.fromkeys((*config.sources.sglang_log, *config.sources.cri)))


def source_label(name: str, patterns: Sequence[str]) -> str:
    """Return what the ``source`` label calls a source: a lone pattern instead of ``files``."""
    return patterns[0] if name == FILES and len(patterns) == 1 else name
