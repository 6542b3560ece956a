"""What a person may set for the sidecar: frozen, and validated as a whole, every wrong field with its path at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hisparse_metrics.sidecar.fields import Fields
from hisparse_metrics.sidecar.labels import PLACEHOLDERS, EngineLabels, unknown_placeholders

DEFAULT_STALE_AFTER = 60.0
STDIN = "-"


class SidecarError(Exception):
    """Something that a person asked of the sidecar cannot be; the message names it, the reason and the remedy."""


class SidecarConfigError(SidecarError):
    """A configuration is wrong; ``problems`` has a line for each wrong field."""

    def __init__(self, problems: list[str], where: str = "") -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"the sidecar's configuration{where} is wrong:", *problems]))


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """What to follow: patterns of plain logs and of CRI logs, systemd units, standard input."""

    sglang_log: tuple[str, ...] = ()
    cri: tuple[str, ...] = ()
    journald_unit: tuple[str, ...] = ()
    stdin: bool = False

    @property
    def count(self) -> int:
        """How many sources that makes."""
        return len(self.sglang_log) + len(self.cri) + len(self.journald_unit) + self.stdin


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Where to serve, unless flags say so; empty means the exporter's default."""

    listen_address: tuple[str, ...] = ()
    config_file: str = ""
    telemetry_path: str = ""


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """The whole configuration."""

    sources: SourcesConfig = field(default_factory=SourcesConfig)
    labels: EngineLabels = field(default_factory=EngineLabels)
    stale_after: float = DEFAULT_STALE_AFTER
    state_file: Path | None = None
    from_start: bool = False
    stats_dir: Path | None = None
    web: WebConfig = field(default_factory=WebConfig)

    def merged(self, flags: Mapping[str, object]) -> SidecarConfig:
        """Return this configuration with a command line's values over it: lists add, single values replace."""
        problems: list[str] = []
        found = read_config(flags, problems, "--")
        if problems:
            raise SidecarConfigError(problems, " on the command line")
        given = {
            name: getattr(found, name) for name in ("stale_after", "state_file", "from_start", "stats_dir")
        }
        return replace(
            self,
            sources=_added(self.sources, found.sources),
            labels=_overridden(self.labels, found.labels),
            **{name: value for name, value in given.items() if name in flags},
        )

    def check(self) -> SidecarConfig:
        """Return this configuration if there is anything to do; else say what is missing."""
        if not self.sources.count and not self.stats_dir:
            raise SidecarConfigError(
                ["sources: nothing to follow; name a log with --sglang-log, or a folder with --stats-dir"]
            )
        return self


def parse_config(data: object, where: str = "") -> SidecarConfig:
    """Read a configuration out of plain values; :class:`SidecarConfigError` names every wrong field."""
    problems: list[str] = []
    config = read_config(data, problems)
    if problems:
        raise SidecarConfigError(problems, where)
    return config


def read_config(data: object, problems: list[str], prefix: str = "") -> SidecarConfig:
    """Read what can be read, and add a line to ``problems`` for everything else."""
    fields = Fields(data, prefix, problems)
    config = SidecarConfig(
        sources=_sources(fields.section("sources")),
        labels=_labels(fields.section("labels")),
        stale_after=fields.positive("stale_after", DEFAULT_STALE_AFTER),
        state_file=fields.path("state_file"),
        from_start=fields.flag("from_start"),
        stats_dir=fields.path("stats_dir"),
        web=_web(fields.section("web")),
    )
    fields.refuse_others()
    return config


def _sources(fields: Fields) -> SourcesConfig:
    names = fields.texts("sglang_log")
    sources = SourcesConfig(
        sglang_log=tuple(name for name in names if name != STDIN),
        cri=fields.texts("cri"),
        journald_unit=fields.texts("journald_unit"),
        stdin=fields.flag("stdin") or STDIN in names,
    )
    fields.refuse_others()
    return sources


def _labels(fields: Fields) -> EngineLabels:
    labels = EngineLabels(fields.text("model"), fields.text("engine_name"))
    for name, template in (("model", labels.model), ("engine_name", labels.engine_name)):
        if unknown := unknown_placeholders(template):
            fields.complain(name, f"nobody fills {unknown}; there are {', '.join(PLACEHOLDERS)}")
    fields.refuse_others()
    return labels


def _web(fields: Fields) -> WebConfig:
    web = WebConfig(fields.texts("listen_address"), fields.text("config_file"), fields.text("telemetry_path"))
    fields.refuse_others()
    return web


def _added(one: SourcesConfig, other: SourcesConfig) -> SourcesConfig:
    def both(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*getattr(one, name), *getattr(other, name))))

    return SourcesConfig(both("sglang_log"), both("cri"), both("journald_unit"), one.stdin or other.stdin)


def _overridden(one: EngineLabels, other: EngineLabels) -> EngineLabels:
    return EngineLabels(other.model or one.model, other.engine_name or one.engine_name)
