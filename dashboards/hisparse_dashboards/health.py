"""Does the engine compute what it should, and which engine is it: checks, audits, identity, restarts."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders import table as table_builders

from hisparse_dashboards import palette, tables
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, alarming, curves, figure
from hisparse_dashboards.queries import total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m

OWNER = "{{instance}} {{engine_name}} dp {{dp_rank}}"
INFO = tuple(label.name for label in m.INFO_LABELS)
IDENTITY = (
    ("instance", "Instance"),
    ("engine_name", "Engine"),
    ("model_name", "Model"),
    ("dp_rank", "DP rank"),
    ("pp_rank", "PP rank"),
    ("tp_rank", "TP rank"),
    ("ep_rank", "EP rank"),
    ("version", "Version"),
    ("mode", "Mode"),
    ("device", "Device"),
    ("dtype", "Type of rows"),
)


def mismatches_now(view: View) -> stat.Panel:
    """Count the checks that failed since the start."""
    return figure(
        "Verify mismatches since start",
        "Was a row on the device ever not what the host holds? Anything above 0 is a defect: take the rank out of service "
        "(runbook HiSparseVerifyMismatch). 'no data': no stats page of ours is selected.",
        palette.COUNT,
        [Line(total(view.recorded.recorded(v.VERIFY_MISMATCHES)), "mismatches")],
        alarming(1),
    )


def violations_now(view: View) -> stat.Panel:
    """Count the audits that failed since the start."""
    return figure(
        "Invariant violations since start",
        "Did an audit ever find a slot with two owners or none? Anything above 0 is a defect: keep the log, restart the rank "
        "(runbook HiSparseInvariantViolation). 'no data': no stats page of ours is selected.",
        palette.COUNT,
        [Line(total(view.recorded.recorded(v.INVARIANT_VIOLATIONS)), "violations")],
        alarming(1),
    )


def running_since(view: View) -> stat.Panel:
    """Show how long the youngest engine runs."""
    return figure(
        "Youngest engine runs for",
        "Did an engine restart lately? The time since the youngest selected one started; restarts are also marked on every "
        "panel. Short and always short: it crashes in a loop, look at the end of its log. 'no data': a log does not tell.",
        palette.SECONDS,
        [Line(f"min(time() - {view.exported.gauge(m.ENGINE_START_TIME_SECONDS)})", "runs for")],
    )


def checks(view: View) -> timeseries.Panel:
    """Draw sampled checks and what they found."""
    exported = view.exported
    return curves(
        "Verify checks",
        "Does the engine check itself, and what does it find? No checks while tokens are generated: verification is off "
        "(--verify-every). Any mismatch: tokens since then may be wrong; take the rank out of service.",
        palette.PER_SECOND,
        [
            Line(total(exported.rate(m.VERIFY_CHECKS)), "checks", palette.GOOD),
            Line(total(exported.rate(m.VERIFY_MISMATCHES)), "mismatches", palette.CRITICAL),
            Line(total(exported.rate(m.INVARIANT_VIOLATIONS)), "invariant violations", palette.RESERVED),
        ],
    )


def steps(view: View) -> timeseries.Panel:
    """Draw decode steps per second."""
    return curves(
        "Decode steps",
        "Is each engine stepping, and how fast? 0 with running requests: it is stuck (runbook HiSparseEngineStalled). "
        "Fewer steps with more running requests is the batch growing.",
        palette.PER_SECOND,
        [Line(f"max by ({', '.join(view.owner)}) ({view.exported.rate(m.DECODE_STEPS)})", OWNER)],
        axis="steps/s",
    )


def identity(view: View) -> table_builders.Panel:
    """List the engines that have stats pages, with what they are and since when."""
    labels = [*((label, label.capitalize()) for label in view.places), *IDENTITY]
    by = ", ".join(label for label, _ in labels)
    started = f"{view.exported.gauge(m.ENGINE_START_TIME_SECONDS)} * 1000"
    info = view.exported.recorded(m.ENGINE_INFO.name)
    rank = ", ".join(("job", *(label for label, _ in labels if label not in INFO)))
    return tables.merged(
        "What runs here",
        "Which version of our engine runs where, in which mode, since when? Different versions or modes behind one router "
        "answer differently: finish the rollout. Empty: no stats page of ours is selected.",
        labels,
        [
            tables.Column(
                "Started", f"max by ({by}) ({info} * on ({rank}) group_left () ({started}))", palette.MOMENT
            )
        ],
        "Started",
    )
