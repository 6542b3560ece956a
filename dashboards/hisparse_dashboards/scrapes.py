"""The way from exporters and sidecars to Prometheus: reachable, quick, complete."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries

from hisparse_dashboards import palette
from hisparse_dashboards.panels import Line, alarming, curves, figure
from hisparse_dashboards.queries import largest_by, total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m

PER_TARGET = "{{job}} {{instance}}"


def down(view: View) -> stat.Panel:
    """Count targets that cannot be scraped."""
    watched = view.exported.matching(f'job=~"{view.config.job_pattern}"')
    return figure(
        "Targets down",
        "Can Prometheus reach every exporter and sidecar? 0 is good; 'no data': no target of a job "
        f"{view.config.job_pattern} is scraped. Above 0: follow the runbook HiSparseEngineDown.",
        palette.COUNT,
        [Line(total(f"1 - {watched.builtin('up')}"), "targets")],
        alarming(1),
    )


def duration(view: View) -> timeseries.Panel:
    """Draw how long scrapes take."""
    return curves(
        "Scrape duration",
        "How long does each scrape take? Milliseconds are normal, some hundred with hundreds of ranks. Near the scrape timeout "
        "(10 s) scrapes fail and panels get gaps: give the sidecar more CPU or scrape less often.",
        palette.SECONDS,
        [Line(view.exported.builtin("scrape_duration_seconds"), PER_TARGET)],
    )


def samples(view: View) -> timeseries.Panel:
    """Draw how many samples a scrape brings."""
    return curves(
        "Samples per scrape",
        "How many series does each target expose? It is a constant per rank: a step up or down is a rank that came or went. "
        "0 is a target that could not be scraped.",
        palette.COUNT,
        [Line(view.exported.builtin("scrape_samples_scraped"), PER_TARGET)],
        axis="samples",
    )


def pages_skipped(view: View) -> timeseries.Panel:
    """Draw stats pages that an exporter leaves out."""
    skipped = view.exported.builtin(m.EXPORTER_PAGES_SKIPPED.name)
    reasons = largest_by((*view.places, "instance", "reason"), skipped)
    # One 0 for an exporter that skips nothing, rather than one for every reason.
    none = f'label_replace({largest_by((*view.places, "instance"), skipped)} == 0, "reason", "none", "", "")'
    return curves(
        "Stats pages skipped",
        "Is an engine missing because its page is not exported? expired and superseded are pages of engines that are gone: "
        "harmless. layout and catalogue: engine and exporter are of different versions. Others: see the exporter's log.",
        palette.COUNT,
        [Line(f"{reasons} > 0 or {none}", "{{instance}} {{reason}}")],
        axis="pages",
    )
