"""The ways between the dashboards: each keeps the time range and what was chosen."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards.view import ENGINE_KIND, View

OVERVIEW_UID = "hisparse-overview"
ENGINE_UID = "hisparse-engine"
SIDECAR_UID = "hisparse-sidecar"
"""Identities: addresses, links and provisioning use them. Never change one."""
TAG = "hisparse"


def between_dashboards() -> list[dashboard.DashboardLink]:
    """Return the links at the top: to every dashboard with our tag, without the one that is shown."""
    link = dashboard.DashboardLink(
        title="HiSparse",
        type_val=dashboard.DashboardLinkType.DASHBOARDS,
        icon="external link",
        tooltip="The other HiSparse dashboards, for the same time and choice",
        tags=[TAG],
        include_vars=True,
        keep_time=True,
    )
    link.placement = None  # type: ignore[assignment]  # beside the variables; the SDK would hide it in a menu
    return [link]


def to_engine(view: View) -> tuple[str, str]:
    """Return what a row of the fleet leads to: the Engine dashboard, with the row's engine chosen."""
    labels = (*view.places, ENGINE_KIND, "job", "instance", "engine_name", "dp_rank")
    chosen = "".join(f"&var-{label}=${{__data.fields.{label}:percentencode}}" for label in labels)
    return (
        "Open in HiSparse Engine",
        f"/d/{ENGINE_UID}?${{__url_time_range}}&${{datasource:queryparam}}{chosen}",
    )
