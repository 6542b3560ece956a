"""The alerts that fire now, as Prometheus itself says it in ``ALERTS``; works without Grafana's alerting.

Alerts about something that is absent have no instance, so an empty one is never filtered away.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import table as table_builders

from hisparse_dashboards import palette, tables
from hisparse_dashboards.panels import Line, alarming, figure
from hisparse_dashboards.view import View

LABELS = (
    ("severity", "Severity"),
    ("alertname", "Alert"),
    ("instance", "Instance"),
    ("engine_name", "Engine"),
    ("dp_rank", "DP rank"),
    ("source", "Source"),
)


def firing(view: View) -> str:
    """Select the firing alerts of what is selected, and those that are about no instance."""
    wanted = [f'{label}=~"${label}|"' for label in (*view.places, "job", "instance")]
    return f'ALERTS{{alertname=~"HiSparse.*", alertstate="firing", {", ".join(wanted)}}}'


def alerts_now(view: View) -> stat.Panel:
    """Count the firing alerts."""
    return figure(
        "Alerts firing",
        "Does anything need a person now? 0 is good. Above 0: Firing alerts on HiSparse Overview names each; its "
        "runbook has its name. Needs the alerting rules in Prometheus: without them it is 0 for ever.",
        palette.COUNT,
        [Line(f"count({firing(view)}) or vector(0)", "alerts")],
        alarming(1),
    )


def alerts_table(view: View) -> table_builders.Panel:
    """List the firing alerts."""
    labels = ", ".join((*view.places, *(label for label, _ in LABELS)))
    panel = tables.merged(
        "Firing alerts",
        "Which alerts fire, and where? Critical ones need action now. Each has a runbook under its name: meaning, "
        "impact, diagnosis, mitigation. Empty: none fires, or the rules are not loaded.",
        [*((label, label.capitalize()) for label in view.places), *LABELS],
        [
            tables.Column(
                "Firing", f"max by ({labels}) ({firing(view)})", states=((1, "firing", palette.CRITICAL),)
            )
        ],
        "Severity",
    )
    base = view.config.runbook_base.rstrip("/")
    if not base.startswith(("http://", "https://")):
        return panel  # a path in the repository leads nowhere from a Grafana
    return tables.linked(panel, "Alert", ("Open the runbook", f"{base}/${{__data.fields.alertname}}.md"))
