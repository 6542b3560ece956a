"""Stats pages as readings of ranks, straight from the cells. Knows no Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from hisparse_metrics import catalogue
from hisparse_metrics.histogram import Histogram
from hisparse_metrics.live.reading import Kind, RankReading
from hisparse_metrics.metric import Metric
from hisparse_metrics.page_folder import PageFolder, identity_labels, last_step_timestamp
from hisparse_metrics.page_reader import PageSnapshot
from hisparse_metrics.page_values import page_values
from hisparse_metrics.stats import usage

_LABEL_NAMES = tuple(label.name for label in catalogue.ENGINE_LABELS)
_LEVELS: dict[str, Metric] = {
    "device_tokens": catalogue.DEVICE_TOKENS,
    "device_spare": catalogue.DEVICE_TOKENS_SPARE,
    "device_capacity": catalogue.DEVICE_TOKEN_CAPACITY,
    "device_usage": catalogue.DEVICE_TOKEN_USAGE,
    "host_tokens": catalogue.HOST_TOKENS,
    "host_capacity": catalogue.HOST_TOKEN_CAPACITY,
    "host_usage": catalogue.HOST_TOKEN_USAGE,
    "running": catalogue.RUNNING_REQUESTS,
    "staging": catalogue.STAGING_REQUESTS,
    "waiting": catalogue.WAITING_REQUESTS,
}
_TOTALS: dict[str, Metric] = {
    "lookups": catalogue.SWAP_IN_LOOKUPS,
    "hits": catalogue.SWAP_IN_HITS,
    "generation": catalogue.GENERATION_TOKENS,
    "prompt": catalogue.PROMPT_TOKENS,
    "host_to_device": catalogue.HOST_TO_DEVICE_BYTES,
    "device_to_host": catalogue.DEVICE_TO_HOST_BYTES,
    "retractions": catalogue.RETRACTIONS,
}
_HISTOGRAMS: dict[str, Metric] = {
    "step": catalogue.DECODE_STEP_SECONDS,
    "swap_in": catalogue.SWAP_IN_SECONDS,
}


class PageReadings:
    """Reads every page of a folder afresh, through ``folder``, which nobody else waits for."""

    def __init__(self, folder: PageFolder) -> None:
        self._folder = folder

    def __call__(self) -> Sequence[RankReading]:
        """Return a reading of every page worth exporting."""
        return [page_reading(page) for page in self._folder.read().pages]


def page_reading(page: PageSnapshot) -> RankReading:
    """Return what a page says of its rank. A pool of capacity 0 does not exist, so it has no usage."""
    values, identity = page_values(page), page.header.identity
    levels = {name: values[metric.name] for name, metric in _LEVELS.items() if metric.name in values}
    levels["host_committed"] = levels["host_tokens"] + values[catalogue.HOST_TOKENS_RESERVED.name]
    if "device_usage" in levels:
        committed = levels["device_tokens"] - levels["device_spare"]
        levels["device_usage_committed"] = usage(committed, levels["device_capacity"])
    return RankReading(
        Kind.PAGE,
        labels=tuple(zip(_LABEL_NAMES, identity_labels(identity), strict=True)),
        up=page.alive,
        incarnation=page.header.start_time,
        stamp=(page.step, page.alive),
        is_current=page.alive,
        last_step=last_step_timestamp(page),
        levels=levels,
        totals={name: values[metric.name] for name, metric in _TOTALS.items()},
        histograms={name: Histogram.of_page(page, metric) for name, metric in _HISTOGRAMS.items()},
        facts={"mode": identity.mode, "version": identity.version, "device": identity.device},
    )
