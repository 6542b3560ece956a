"""What keeping rows on the host costs a step, in the detail that our own stats pages have, and vLLM's share of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from hisparse_dashboards import palette, split
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, adding, bounded, curves, rising
from hisparse_dashboards.queries import ratio, total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def hit_ratio(view: View) -> timeseries.Panel:
    """Draw our engine's hit ratio, and each vLLM's."""
    theirs = f"min by ({', '.join(view.owner)}) ({view.of_others.recorded(v.HIT_RATIO)})"
    return adding(split.hit_ratio(view), 1, [Line(theirs, f"{split.PER_ENGINE} dp {{{{dp_rank}}}}")])


def rows(view: View) -> timeseries.Panel:
    """Draw what becomes of the rows that sparse attention asks for."""
    exported = view.exported
    return curves(
        "Rows looked up, found, fetched, evicted",
        "How many top-k rows per second are asked for, found on the device, fetched from the host, and displaced there? "
        "Evictions as many as misses: the hot buffers are full. Misses without evictions: they are still filling. A gap "
        "means that no stats page of ours is selected.",
        palette.PER_SECOND,
        [
            Line(total(exported.rate(m.SWAP_IN_LOOKUPS)), "lookups", palette.CAPACITY),
            Line(total(exported.rate(m.SWAP_IN_HITS)), "hits", palette.DEVICE),
            Line(total(exported.rate(m.SWAP_IN_MISSES)), "misses", palette.HOST),
            Line(total(exported.rate(m.EVICTIONS)), "evictions", palette.RESERVED),
        ],
        axis="rows/s",
    )


def bandwidth(view: View) -> timeseries.Panel:
    """Draw the traffic between the tiers under what the selected ranks' links carry."""
    link = view.config.link_bytes_per_second
    links = f"count({view.exported.rate(m.HOST_TO_DEVICE_BYTES)}) * {link:g}"
    vllm = total(view.of_others.recorded(v.HOST_TO_DEVICE))
    return adding(split.bandwidth(view), 2, [
        Line(links, "limit of the links", palette.CAPACITY, dashed=True),
        Line(vllm, f"host to device, vLLM ({view.config.vllm_rate_window})", palette.CACHE),
    ])  # fmt: skip


def link_share(view: View) -> timeseries.Panel:
    """Draw the busiest link."""
    link = view.config.link_bytes_per_second
    busiest = f"max({view.exported.rate(m.HOST_TO_DEVICE_BYTES)}) / {link:g}"
    panel = curves(
        "Busiest link",
        f"How much of its link ({link / 1e9:g} GB/s from the host) does the busiest selected rank use for swap-in? Above the "
        "dashed line with a low hit ratio, HiSparseHotBufferThrashing fires: enlarge the device buffer or run fewer "
        "requests. Another link: set link_bytes_per_second in the configuration.",
        palette.RATIO,
        [Line(busiest, "swap-in / link", palette.DEVICE)],
    )
    return bounded(panel, rising(view.limits.thrashing_link_share))


def step_share(view: View) -> timeseries.Panel:
    """Draw how much of a step is swap-in."""
    share = ratio(
        total(view.exported.seconds_per_second(m.SWAP_IN_SECONDS)),
        total(view.exported.seconds_per_second(m.DECODE_STEP_SECONDS)),
    )
    panel = curves(
        "Swap-in's share of a step",
        "How much of the time of decode steps goes into making rows resident? Small: the split costs nothing worth "
        "mending. Most of a step: raise the hit ratio, or the link is the limit. A gap means that no step was taken.",
        palette.RATIO,
        [Line(share, "swap-in / step", palette.DEVICE)],
    )
    return bounded(panel)


def backup_pending(view: View) -> timeseries.Panel:
    """Draw vLLM's queue of pages for the host."""
    return curves(
        "Pages that wait for the host (vLLM)",
        "How many pages has vLLM still to copy to the host? It should rise and fall; standing still above 0 for 10 minutes "
        "is HiSparseBackupStalled. 'no data': no vLLM is selected.",
        palette.COUNT,
        [Line(total(view.recorded.recorded(v.BACKUP_PENDING)), "pending pages", palette.HOST)],
        axis="pages",
    )


def index_keys(view: View) -> timeseries.Panel:
    """Draw index keys under their capacity."""
    exported = view.exported
    return curves(
        "Index keys",
        "How many tokens can the indexer see, and how many could it? Index keys stay on the device for the whole sequence: at "
        "capacity before the host pool is, they limit admission; enlarge --index-tokens.",
        palette.TOKENS,
        [
            Line(view.once_per_token(exported.gauge(m.INDEX_TOKENS)), "index keys", palette.DEVICE),
            Line(
                view.once_per_token(exported.gauge(m.INDEX_TOKEN_CAPACITY)),
                "capacity",
                palette.CAPACITY,
                dashed=True,
            ),
        ],
        axis="tokens",
    )
