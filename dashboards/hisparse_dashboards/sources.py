"""The logs that stand in for metrics: read, understood, fresh, and what each tells of its engine."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as table_builders

from hisparse_dashboards import palette, tables, timelines
from hisparse_dashboards.panels import Line, alarming, curves, figure, rising
from hisparse_dashboards.queries import largest_by, smallest_by, total
from hisparse_dashboards.tables import Column
from hisparse_dashboards.view import SOURCE, View
from hisparse_metrics import catalogue as m

PER_SOURCE = "{{instance}} {{source}}"
STATES = tuple((index, state, color) for index, (state, color) in enumerate(palette.STATES.items()))


def unreadable(view: View) -> stat.Panel:
    """Count logs that cannot be read."""
    return figure(
        "Unreadable sources",
        "Can the sidecar read every log that it follows? 0 is good; 'no data' means that no log is followed. Above 0: follow "
        "the runbook HiSparseSourceUnreadable.",
        palette.COUNT,
        [Line(total(f"1 - {_one(view, view.exported.gauge(m.SOURCE_UP))}"), "sources")],
        alarming(1),
    )


def oldest(view: View) -> stat.Panel:
    """Show the age of the oldest last record."""
    limits = view.limits
    return figure(
        "Oldest last record",
        "How old are the numbers of the log that has been quiet for longest? An idle engine logs no decode lines, so age alone "
        "is no failure: look at its state. Beyond the alert's level and silent: runbook HiSparseSourceStale.",
        palette.SECONDS,
        [Line(f"max({_age(view)})", "age")],
        rising(limits.source_stale_seconds, limits.source_retired_seconds),
    )


def behind(view: View) -> stat.Panel:
    """Show how far the sidecar is behind."""
    return figure(
        "Bytes behind",
        "Does the sidecar keep up? Bytes that are written and not read yet, over all selected logs. Growing: the sidecar's CPU "
        "limit is too low for so much log; levels of lines far behind are not exported.",
        palette.BYTES,
        [Line(total(_one(view, view.exported.gauge(m.SOURCE_LAG_BYTES))), "behind")],
        rising(view.limits.source_lag_bytes),
    )


def ranks(view: View) -> stat.Panel:
    """Count the ranks that the logs tell of."""
    return figure(
        "Ranks seen",
        "Does every rank log here? Compare with the number of ranks of the deployment; fewer: some log elsewhere. Ranks beyond "
        "the limit of a log are refused, see Not understood.",
        palette.COUNT,
        [Line(total(_one(view, view.exported.gauge(m.SOURCE_RANKS))), "ranks")],
    )


def unsaved(view: View) -> stat.Panel:
    """Count failures to save positions."""
    failures = view.exported.builtin(f"{m.SIDECAR_STATE_FILE_FAILURES}")
    return figure(
        "State file failures",
        "Could positions and counters not be saved within the last while? Until they can, a restart repeats lines: see that "
        "the folder of the state file is writable and not full. 0 is good, also without a state file.",
        palette.COUNT,
        [Line(total(f"increase({failures}[{view.exported.window}])"), "failures")],
        alarming(1),
    )


def table(view: View) -> table_builders.Panel:
    """List the followed logs with what matters about each."""
    labels = [
        *((label, label.capitalize()) for label in view.places),
        ("instance", "Instance"),
        (SOURCE, "Source"),
    ]
    return tables.merged(
        "Sources",
        "Is each log read, understood and fresh, and what does it tell of its engine? working: records come; idle: other "
        "lines come and nothing waited; stalled: other lines come though requests waited; silent: nobody knows; dead: it said "
        "so or is gone. Stalled or dead: look at the engine, not here.",
        labels,
        list(_columns(view)),
        "Last record",
    )


def _columns(view: View) -> Iterator[Column]:
    limits, exported = view.limits, view.exported
    readable = ((0, "no", palette.CRITICAL), (1, "yes", palette.GOOD))
    yield Column("Readable", _one(view, exported.gauge(m.SOURCE_UP), smallest=True), states=readable)
    yield Column("State", _state(view), states=STATES)
    stale = rising(limits.source_stale_seconds, limits.source_retired_seconds)
    yield Column("Last record", _age(view), palette.SECONDS, stale)
    for outcome in palette.LINES:
        lines = exported.matching(f'outcome="{outcome}"').rate(m.SOURCE_LINES)
        yield Column(f"{outcome.capitalize()} lines/s", _one(view, lines), palette.PER_SECOND)
    yield Column(
        "Behind",
        _one(view, exported.gauge(m.SOURCE_LAG_BYTES)),
        palette.BYTES,
        rising(limits.source_lag_bytes),
    )
    yield Column("Ranks", _one(view, exported.gauge(m.SOURCE_RANKS)))


def states(view: View) -> statetimeline.Panel:
    """Draw what each log tells of its engine over time."""
    return timelines.states(
        "What each log tells of its engine",
        "Was the engine working, idle, stuck, or did nobody know, and since when? A change from working to silent in the "
        "middle of a load is a hang or a crash that left nothing in the log.",
        Line(_state(view), PER_SOURCE),
        STATES,
    )


def age(view: View) -> timeseries.Panel:
    """Draw the age of each log's last record."""
    return curves(
        "Age of the last record",
        "How old are the numbers of each log? A saw-tooth as wide as the server's decode log interval is normal; a straight "
        "climb is an engine without work, or without life: see its state.",
        palette.SECONDS,
        [Line(_age(view), PER_SOURCE)],
    )


def up(view: View) -> timeseries.Panel:
    """Draw whether each log can be read."""
    return curves(
        "Sources that can be read",
        "How many followed logs can be read, of how many? Fewer than followed: permissions after a rotation, or a volume that "
        "is gone (runbook HiSparseSourceUnreadable).",
        palette.COUNT,
        [
            Line(total(_one(view, view.exported.gauge(m.SOURCE_UP))), "readable", palette.GOOD),
            Line(
                f"count({_one(view, view.exported.gauge(m.SOURCE_UP))})",
                "followed",
                palette.CAPACITY,
                dashed=True,
            ),
        ],
        axis="sources",
    )


def lines(view: View) -> timeseries.Panel:
    """Draw lines by what became of them."""
    return curves(
        "Lines by outcome",
        "Does the parser understand these logs? parsed: records and events; ignored: other lines, the most of them as a rule; "
        "malformed: records that were cut or are of an unknown form. Only ignored ones while the engine works: the format is "
        "new (runbook HiSparseLogFormatUnknown).",
        palette.PER_SECOND,
        [
            Line(total(view.exported.matching(f'outcome="{outcome}"').rate(m.SOURCE_LINES)), outcome, color)
            for outcome, color in palette.LINES.items()
        ],
        axis="lines/s",
    )


def not_understood(view: View) -> timeseries.Panel:
    """Draw what the parser could not use."""
    exported = view.exported
    malformed = exported.matching('outcome="malformed"').rate(m.SOURCE_LINES)
    return curves(
        "Not understood",
        "Is something lost in reading? Unknown fields: a new version says more than we read, nothing else is lost. Malformed "
        "lines: spliced or cut output, now and then normal. Refused records: more ranks than a log may have, so some are "
        "missing.",
        palette.PER_SECOND,
        [
            Line(total(malformed), "malformed lines", palette.CRITICAL),
            Line(total(exported.rate(m.SOURCE_UNKNOWN_FIELDS)), "unknown fields", palette.NEUTRAL),
            Line(total(exported.rate(m.SOURCE_REFUSED_RECORDS)), "refused records", palette.RESERVED),
        ],
    )


def throughput(view: View) -> timeseries.Panel:
    """Draw bytes read and bytes never parsed."""
    return curves(
        "Bytes read",
        "How much do the engines log, and is any of it never parsed? Skipped bytes are of lines beyond the length limit, or "
        "lost when a pipe's reader was too slow: counters miss what was in them.",
        palette.BYTES_PER_SECOND,
        [
            Line(total(view.exported.rate(m.SOURCE_BYTES)), "read", palette.NEUTRAL),
            Line(total(view.exported.rate(m.SOURCE_SKIPPED_BYTES)), "skipped", palette.CRITICAL),
        ],
    )


def lag(view: View) -> timeseries.Panel:
    """Draw how far the sidecar is behind in each log."""
    return curves(
        "Bytes behind by source",
        "Which log does the sidecar not keep up with? It goes back to 0 between bursts; one that only grows is more log than "
        "the sidecar's CPU limit allows.",
        palette.BYTES,
        [Line(_one(view, view.exported.gauge(m.SOURCE_LAG_BYTES)), PER_SOURCE)],
    )


def _age(view: View) -> str:
    return smallest_by(_by(view), f"time() - {view.exported.gauge(m.SOURCE_LAST_SAMPLE_TIMESTAMP_SECONDS)}")


def _state(view: View) -> str:
    """Turn the one state that is 1 into its number; the first is 0."""
    scopes = [view.exported.matching(f'state="{state}"') for _, state, _ in STATES]
    each = [f"{index} * {scope.gauge(m.SOURCE_STATE)}" for index, scope in enumerate(scopes)]
    return largest_by(_by(view), " or ".join(each))


def _one(view: View, expr: str, *, smallest: bool = False) -> str:
    return (smallest_by if smallest else largest_by)(_by(view), expr)


def _by(view: View) -> tuple[str, ...]:
    return (*view.places, "instance", SOURCE)
