"""What a deployer may want to change, in one place: panels and alerts read their thresholds from the same values."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hisparse_dashboards.queries import IDENTITY

Ratio = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[int, Field(gt=0)]
Window = Annotated[str, Field(pattern=r"^[1-9][0-9]*[smhd]$")]
"""A duration as Prometheus writes it, of one unit."""
LabelName = Annotated[str, Field(pattern=r"^([a-zA-Z_][a-zA-Z0-9_]*)?$")]


_TAKEN = frozenset({*IDENTITY, "engine", "source", "datasource"})
"""Names of dashboards' variables."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(_Frozen):
    """Levels at which a panel changes colour and an alert fires. Ratios are 0–1, durations seconds."""

    host_usage_warning: Ratio = 0.85
    host_usage_critical: Ratio = 0.95
    host_pool_full: Ratio = 0.98
    host_exhaustion_seconds: Seconds = 1800
    """A host pool that would be full sooner is announced."""
    host_exhaustion_floor: Ratio = 0.5
    """Below this usage nothing is predicted: a pool that was just started fills steeply, and stops."""
    device_committed_warning: Ratio = 0.98
    """Of what hot buffers would not give back: a device pool that is full of spare is as it should be."""
    index_pool_full: Ratio = 0.98
    """Of index keys used or promised."""
    hit_ratio_warning: Ratio = 0.90
    thrashing_miss_ratio: Ratio = 0.20
    thrashing_link_share: Ratio = 0.50
    """Share of the link that swap-in uses."""
    stalled_seconds: Seconds = 60
    retractions_per_minute: Annotated[float, Field(gt=0)] = 6.0
    source_stale_seconds: Seconds = 900
    """A followed log without a record for longer, while nothing says that its engine is idle, is stale."""
    source_retired_seconds: Seconds = 86400
    """And without one for this long it is taken for a log that is not written any more."""
    dead_log_seconds: Seconds = 3600
    """A log whose engine is dead is forgotten this long after its last record: its pod is not coming back."""
    unknown_format_lines: Annotated[int, Field(gt=0)] = 10_000
    """So many lines without one record make a log's format unknown."""
    malformed_lines: Annotated[int, Field(gt=0)] = 20
    """So many cut or misformed records within 15 minutes, and no good one, do too."""
    source_lag_bytes: Annotated[int, Field(gt=0)] = 64 << 20

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Refuse an order that would make a level unreachable or useless."""
        if not self.host_usage_warning < self.host_usage_critical < self.host_pool_full:
            raise ValueError(
                "must satisfy host_usage_warning < host_usage_critical < host_pool_full, got "
                f"{self.host_usage_warning}, {self.host_usage_critical}, {self.host_pool_full}"
            )
        if not self.source_stale_seconds < self.source_retired_seconds:
            raise ValueError(
                f"source_stale_seconds {self.source_stale_seconds} must be below source_retired_seconds "
                f"{self.source_retired_seconds}"
            )
        return self


class Config(_Frozen):
    """One deployment: thresholds, windows, and where its jobs, runbooks and receivers are found."""

    thresholds: Thresholds = Thresholds()
    rate_window: Window = "5m"
    """Window of recorded rates: a few scrapes of the slowest source."""
    vllm_rate_window: Window = "10m"
    """The same for vLLM's HiSparse counters, which move once in 2000 worker calls: about once a minute."""
    prediction_window: Window = "30m"
    """How much of the past tells when a host pool will be full."""
    link_bytes_per_second: Annotated[float, Field(gt=0)] = 54.8e9
    """What one device's link carries from the host. The default is the copy engine of PCIe 5.0 x16 on an H200, measured."""
    vllm_links: Annotated[int, Field(gt=0)] = 8
    """Tensor-parallel ranks of one vLLM engine: it adds up the bytes of all their links."""
    job_pattern: str = "hisparse.*"
    """Regular expression of the Prometheus jobs that scrape HiSparse exporters; HiSparseEngineDown watches them."""
    runbook_base: str = "docs/runbooks"
    """What precedes ``/<alert>.md`` in ``runbook_url``; set it to the address where you publish the runbooks."""
    webhook_url: str = "http://127.0.0.1:9095/alerts"
    """Where the generated Alertmanager configuration sends alerts."""
    cluster_label: LabelName = ""
    """Label that tells clusters apart, if your Prometheus has one; dashboards then offer it as a variable."""
    namespace_label: LabelName = ""
    """The same for namespaces."""

    @model_validator(mode="after")
    def _labels_apart(self) -> Self:
        """Refuse a label that is a choice of every dashboard already."""
        given = [label for label in (self.cluster_label, self.namespace_label) if label]
        for label in given:
            if label in _TAKEN or given.count(label) > 1:
                raise ValueError(
                    f"cluster_label and namespace_label must be labels of their own, got {label!r} again"
                )
        return self


DEFAULT = Config()
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(window: str) -> int:
    """Return the length of a :data:`Window`."""
    return int(window[:-1]) * _UNIT_SECONDS[window[-1]]


def parse(given: object) -> Config:
    """Return the configuration that a file holds; ``ValueError`` with every wrong field and its path at once."""
    try:
        return Config.model_validate({} if given is None else given)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(problem) for problem in error.errors())) from error


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path or 'the file'}: {message}, got {problem['input']!r}"
