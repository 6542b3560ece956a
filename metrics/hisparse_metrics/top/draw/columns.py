"""The columns of the list of ranks: what each shows, how wide it is, and which of them fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from hisparse_metrics.top.draw.cells import columns as resampled
from hisparse_metrics.top.draw.cells import seconds_of
from hisparse_metrics.top.draw.meters import bar, sparkline
from hisparse_metrics.top.draw.theme import MARKS, Theme
from hisparse_metrics.top.history import CurvePoint
from hisparse_metrics.top.numbers import ahead, bandwidth, duration, percent, short, small, throughput
from hisparse_metrics.top.state import State
from hisparse_metrics.top.view import RankView, Totals
from hisparse_metrics.top.vocabulary import Severity

GAP = 1
PERCENT = 6
"""Cells of a usage: a space, three digits, the sign, the mark."""
_NAME, _BARS = "RANK", ("GPU-TOKEN USAGE", "CPU-TOKEN USAGE")
_BAR_MOST, _NAME_MOST = 30, 40


@dataclass(frozen=True, slots=True)
class Column:
    """``least`` is the width that it needs; ``order`` says in which order columns are given up, last first."""

    title: str
    least: int
    order: int
    cell: Callable[[RankView, int, Theme, float], Text]
    is_number: bool = True
    short_title: str = ""

    def heading(self, width: int) -> str:
        """Return the title that fits."""
        title = self.title if len(self.title) <= width else self.short_title or self.title
        return title[:width].rjust(width) if self.is_number else title[:width].ljust(width)


def chosen(width: int, names: Iterable[str]) -> list[tuple[Column, int]]:
    """Return the columns that fit into ``width`` with their widths; names and bars take what is left."""
    kept: list[Column] = []
    left = width + GAP
    for column in sorted(COLUMNS, key=lambda column: column.order):
        if column.least + GAP <= left:
            kept.append(column)
            left -= column.least + GAP
        else:
            break
    widths = {column.title: column.least for column in kept}
    _widen(widths, _NAME, left, min(max(map(len, names), default=0), _NAME_MOST))
    left = width + GAP - sum(w + GAP for w in widths.values())
    bars = [title for title in _BARS if title in widths]
    for title in bars:
        _widen(widths, title, left // len(bars), _BAR_MOST)
    return [(column, widths[column.title]) for column in COLUMNS if column.title in widths]


def _widen(widths: dict[str, int], title: str, left: int, most: int) -> None:
    widths[title] += max(min(left, most - widths[title]), 0)


# -- cells ------------------------------------------------------------------------------------------------------


def _plain(figure: Callable[[RankView], str]) -> Callable[[RankView, int, Theme, float], Text]:
    return lambda rank, width, theme, interval: Text(figure(rank).rjust(width), no_wrap=True)


def _name(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    return fitted(rank.name, width)


def _state(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    _, style = theme.state(rank.state)
    return Text(no_wrap=True).append(rank.state, style).append(" " * (width - len(rank.state)))


def host_usage(of: RankView | Totals, width: int, theme: Theme) -> Text:
    """Return a bar, where there is room, and the usage of the host pool; promised slots are drawn beyond."""
    return _usage(of.host_usage, of.host_usage, of.reserved_usage, "host", "reserved", width, theme)


def device_usage(of: RankView | Totals, width: int, theme: Theme) -> Text:
    """Return the same of the device pool; what is spare is drawn apart, and to be full of it is as it should be."""
    committed = None if of.device_usage is None else of.device_usage - of.spare_usage
    return _usage(of.device_usage, committed, of.spare_usage, "device", "spare", width, theme)


def _usage(
    usage: float | None, judged: float | None, beyond: float, tier: str, beyond_color: str, width: int, theme: Theme
) -> Text:  # fmt: skip
    """Return ``usage`` in percent, loud where the dashboards would colour ``judged``, which the bar begins with."""
    text = Text(no_wrap=True)
    if width > PERCENT:
        text.append_text(bar(judged, width - PERCENT, tier, theme, beyond, beyond_color))
    severity = theme.vocabulary.severity(f"{tier}-usage", judged)
    return text.append_text(loud(percent(usage), severity, theme, PERCENT))


def loud(figure: str, severity: Severity, theme: Theme, width: int) -> Text:
    """Return a figure, right-aligned with a place for its mark."""
    figure = figure[: width - 1]
    padding = Text(" " * (width - 1 - len(figure)), no_wrap=True)
    return padding.append(f"{figure}{MARKS[severity]}", theme.alarm(severity))


def _device_bar(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    return device_usage(rank, width, theme)


def _host_bar(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    return host_usage(rank, width, theme)


def _line(
    value: Callable[[CurvePoint], float | None], top: float | None, color: str
) -> Callable[[RankView, int, Theme, float], Text]:
    def cell(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
        seconds = seconds_of(rank.curve, width, interval)
        return sparkline(resampled(rank.curve, value, width, seconds), top, color, theme)

    return cell


def _hit(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    severity = theme.vocabulary.severity("hit-ratio", rank.hit_ratio)
    return loud(percent(rank.hit_ratio, 1), severity, theme, width)


def _since(rank: RankView, width: int, theme: Theme, interval: float) -> Text:
    severity = theme.vocabulary.silence(rank.since_step) if rank.running else Severity.FINE
    severity = severity if rank.state in (State.UP, State.STALLED) else Severity.FINE
    return loud(duration(rank.since_step), severity, theme, width)


def fitted(text: str, width: int) -> Text:
    """Return ``text`` in exactly ``width`` cells, cut with an ellipsis where it is longer."""
    cut = Text(text, no_wrap=True)
    cut.truncate(width, overflow="ellipsis" if width > 1 else "crop", pad=True)
    return cut


COLUMNS: Sequence[Column] = (
    Column(_NAME, 10, 0, _name, is_number=False),
    Column("STATE", 7, 3, _state, is_number=False),
    Column("RUN", 4, 4, _plain(lambda rank: short(rank.running))),
    Column("STAGE", 5, 15, _plain(lambda rank: short(rank.staging))),
    Column("WAIT", 4, 5, _plain(lambda rank: short(rank.waiting))),
    Column("#GPU-TOKEN", 10, 11, _plain(lambda rank: short(rank.device_tokens))),
    Column(_BARS[0], 10, 2, _device_bar, is_number=False, short_title="GPU-TOKEN"),
    Column("#CPU-TOKEN", 10, 10, _plain(lambda rank: short(rank.host_tokens))),
    Column(_BARS[1], 12, 1, _host_bar, is_number=False, short_title="CPU-TOKEN"),
    Column("RESERVED", 8, 17, _plain(lambda rank: short(rank.host_reserved))),
    Column("FULL IN", 7, 6, _plain(lambda rank: ahead(rank.seconds_to_full))),
    Column("CPU TREND", 10, 9, _line(lambda point: point.host_usage, 1.0, "host"), is_number=False),
    Column("TOKEN/S", 7, 7, _plain(lambda rank: throughput(rank.tokens_per_second))),
    Column("TREND", 10, 18, _line(lambda point: point.tokens_per_second, None, "good"), is_number=False),
    Column("HIT", 7, 8, _hit),
    Column("HIT TREND", 10, 19, _line(lambda point: point.hit_ratio, 1.0, "device"), is_number=False),
    Column("TO GPU", 10, 12, _plain(lambda rank: bandwidth(rank.host_to_device))),
    Column("TO CPU", 10, 13, _plain(lambda rank: bandwidth(rank.device_to_host))),
    Column("STEP", 6, 14, _plain(lambda rank: small(rank.step_p50))),
    Column("RETR", 5, 16, _plain(lambda rank: short(rank.retractions))),
    Column("LAST", 7, 15, _since),
)
