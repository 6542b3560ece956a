"""Alerts about the way between the tiers: is the device's share right, and do rows get where they belong."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.alerts.wording import NUMBER, PERCENT, WHO
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.rules import Alert


def alerts(config: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    yield backup_stalled()
    yield vllm_backup_stalled()
    yield device_usage_saturated(config.thresholds)
    yield hot_buffer_thrashing(config)


_BACKUP_FIRST = (
    "Rows that never reach the host are lost when they are evicted. Likely causes: a copy stream that hangs, pinned "
    "memory that was lost, a defect. First: look for device errors in the kernel's log, then restart the rank."
)


def backup_stalled() -> Alert:
    """Tell that tokens are generated and none of their rows goes to the host."""
    generating = f'{v.GENERATION}{{engine="hisparse"}} > 0'
    silent = v.same_rank(generating, f"{v.DEVICE_TO_HOST} == 0")
    return Alert(
        "HiSparseBackupStalled",
        "critical",
        v.same_rank(silent, f"{v.HOST_CAPACITY} > 0"),
        "5m",
        f"{WHO}: {NUMBER} tokens/s are generated and no row is backed up",
        f"The engine generates tokens but copies nothing to the host pool. {_BACKUP_FIRST}",
    )


def vllm_backup_stalled() -> Alert:
    """Tell that vLLM's queue of pages for the host stands still while it works; an idle one keeps its last number."""
    return Alert(
        "HiSparseBackupStalled",
        "critical",
        v.same_rank(
            v.same_rank(f"{v.BACKUP_PENDING} > 0", f"changes({v.BACKUP_PENDING}[10m]) == 0"),
            f"{v.RUNNING} > 0",
        ),
        "5m",
        f"{WHO}: {NUMBER} pages wait for the host, unchanged for 10 minutes",
        f"vLLM has pages to copy to the host, and their number does not move. {_BACKUP_FIRST}",
        engine="vllm",
    )


def device_usage_saturated(limits: Thresholds) -> Alert:
    """Tell that requests wait for device slots that nobody would give back, while the host pool has room."""
    waiting = v.same_rank(v.no_room(v.DEVICE_COMMITTED, limits.device_committed_warning), f"{v.WAITING} > 0")
    return Alert(
        "HiSparseDeviceUsageSaturated",
        "warning",
        v.unless_same_rank(waiting, v.no_room(v.HOST_COMMITTED, limits.host_pool_full)),
        "10m",
        f"{WHO}: device pool {PERCENT} committed and requests wait, though the host pool has room",
        "A full device pool alone is normal, and what hot buffers would give back is not counted; here it keeps requests "
        "waiting. Likely causes: hot buffers that are large for so many requests, or a device pool that is small beside the "
        "host pool. First: lower --device-buffer-size (not below the top-k), or raise --device-tokens.",
    )


def hot_buffer_thrashing(config: Config) -> Alert:
    """Tell that hot buffers miss so much that the link carries little else."""
    limits = config.thresholds
    busy = limits.thrashing_link_share * config.link_bytes_per_second
    link = (
        f'{v.HOST_TO_DEVICE}{{engine!="vllm"}} > {busy:g} or '
        f'{v.HOST_TO_DEVICE}{{engine="vllm"}} > {busy * config.vllm_links:g}'
    )
    return Alert(
        "HiSparseHotBufferThrashing",
        "warning",
        v.same_rank(f"1 - {v.HIT_RATIO} > {limits.thrashing_miss_ratio:g}", link),
        "10m",
        f"{WHO}: {PERCENT} of the top-k rows miss the hot buffer",
        f"Swap-in uses more than {limits.thrashing_link_share:.0%} of the link, and steps wait for it. Likely causes: hot "
        "buffers that are small for the model's selection, or a batch that is too large for the device pool. First: raise "
        "the hot buffer (--device-buffer-size, SGLang's device_buffer_size), or lower the number of running requests.",
    )
