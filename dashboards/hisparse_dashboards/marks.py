"""What is marked on every panel: alerts while they fire, engines while they are down, and starts."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard, prometheus

from hisparse_dashboards import palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.firing import firing
from hisparse_dashboards.panels import DATASOURCE
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m

STEP = "30s"
WHO = "{{instance}} {{engine_name}} {{dp_rank}}"


def alerts(view: View) -> dashboard.AnnotationQuery:
    """Mark the time for which an alert fires."""
    return _annotation(
        "Alerts", firing(view), "{{alertname}}", f"{WHO} {{{{source}}}}", palette.WARNING, "severity"
    )


def down(view: View) -> dashboard.AnnotationQuery:
    """Mark the time for which an engine is known to be dead."""
    dead = f"1 - {view.recorded.recorded(v.ENGINE_UP)} > 0"
    return _annotation("Engine down", dead, "Engine down", WHO, palette.CRITICAL, "engine")


def starts(view: View) -> dashboard.AnnotationQuery:
    """Mark the moments at which engines started, by the time that they tell."""
    started = f"{view.exported.gauge(m.ENGINE_START_TIME_SECONDS)} * 1000"
    made = _annotation("Starts", started, "Engine started", WHO, palette.NEUTRAL, "model_name")
    made.use_value_for_time = True
    return made


def logged_starts(view: View) -> dashboard.AnnotationQuery:
    """Mark the moments at which a log said that its engine was ready."""
    ready = f"changes({view.exported.counter(m.ENGINE_STARTS)}[1m]) > 0"
    return _annotation(
        "Starts in the log", ready, "Engine ready", f"{WHO} {{{{source}}}}", palette.NEUTRAL, "model_name"
    )


def _annotation(
    name: str, expr: str, title: str, text: str, color: str, tags: str
) -> dashboard.AnnotationQuery:
    query = prometheus.Dataquery(expr=expr, ref_id="Anno", interval=STEP, datasource=DATASOURCE)
    return dashboard.AnnotationQuery(
        name=name,
        datasource=DATASOURCE,
        enable=True,
        icon_color=color,
        target=query,
        title_format=title,
        text_format=text,
        tag_keys=tags,
    )
