"""What only a log tells of its engine: SGLang behind the sidecar. Empty where every engine has a stats page."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from hisparse_dashboards import palette
from hisparse_dashboards.health import OWNER
from hisparse_dashboards.panels import Line, bounded, curves
from hisparse_dashboards.queries import largest_by, total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def throughput(view: View) -> timeseries.Panel:
    """Draw what SGLang says of its own throughput."""
    return curves(
        "Throughput as logged (SGLang)",
        "How fast does each rank say that it decodes? The figure of its last decode line, over the server's own log "
        "interval. A gap means that the log is silent: see the state of the source on HiSparse Sidecar.",
        palette.COUNT,
        [Line(largest_by(view.owner, view.exported.gauge(m.GENERATION_TOKENS_PER_SECOND)), OWNER)],
        axis="tokens/s",
    )


def pools(view: View) -> timeseries.Panel:
    """Draw pools that are not split."""
    panel = curves(
        "Pools without a split (SGLang)",
        "How full are the pools of an SGLang that logs no split, or has sliding-window or Mamba pools beside it? single is "
        "an engine's only pool. SGLang 0.5.10 with HiSparse logs its device pool here. 'no data': no such pool.",
        palette.RATIO,
        [
            Line(
                largest_by((*view.owner, "pool"), view.exported.gauge(m.POOL_TOKEN_USAGE)),
                f"{OWNER} {{{{pool}}}}",
            )
        ],
    )
    return bounded(panel)


def pool_tokens(view: View) -> timeseries.Panel:
    """Draw the tokens of pools that are not split."""
    used = largest_by((*view.owner, "pool"), view.exported.gauge(m.POOL_TOKENS))
    return curves(
        "Tokens in pools without a split (SGLang)",
        "How many tokens does an SGLang hold that logs no split, or that has sliding-window or Mamba pools beside it? Compare "
        "with the usage beside it for the size of the pool. 'no data': no such pool.",
        palette.TOKENS,
        [Line(used, f"{OWNER} {{{{pool}}}}")],
        axis="tokens",
    )


def failures(view: View) -> timeseries.Panel:
    """Draw failures that SGLang logs."""
    exported = view.exported
    return curves(
        "Failures in the log (SGLang)",
        "Does SGLang fail to allocate, or lose its fast path? A failed host allocation ends a request (runbook "
        "HiSparseHostPoolFull); a failed device allocation means hot buffers too large for the load; synchronous swap-ins "
        "make steps slow.",
        palette.PER_SECOND,
        [
            Line(total(exported.rate(m.HOST_ALLOCATION_FAILURES)), "host allocations failed", palette.HOST),
            Line(
                total(exported.rate(m.DEVICE_ALLOCATION_FAILURES)),
                "device allocations failed",
                palette.DEVICE,
            ),
            Line(total(exported.rate(m.SYNCHRONOUS_SWAP_INS)), "synchronous swap-ins", palette.RESERVED),
        ],
    )


def starts(view: View) -> timeseries.Panel:
    """Draw starts and crashes that SGLang logs."""
    exported = view.exported
    return curves(
        "Starts and crashes in the log (SGLang)",
        "How often did SGLang say that it was ready, and how often did it crash, within the panel's resolution? A start "
        "without anybody's doing is a restart; a crash: look at the end of the log.",
        palette.COUNT,
        [
            Line(total(exported.increase(m.ENGINE_STARTS)), "starts", palette.GOOD),
            Line(total(exported.increase(m.ENGINE_CRASHES)), "crashes", palette.CRITICAL),
        ],
    )
