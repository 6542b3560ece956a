"""The head of the screen: which source, what is wrong with it, and all ranks together in the decode log's words."""

from __future__ import annotations

import time

from rich.text import Text

from hisparse_metrics.top.draw.columns import PERCENT, device_usage, host_usage
from hisparse_metrics.top.draw.flow import fact, flow
from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.numbers import UNKNOWN, ahead, bandwidth, duration, full, percent, short, throughput
from hisparse_metrics.top.view import Snapshot, Totals
from hisparse_metrics.top.vocabulary import Severity

_BAR_LEAST, _BAR_MOST = 8, 100
_WORDY = 60
"""From this width on the log's own words fit."""
_LABELS = (
    "#running-req", "#staging-req", "#queue-req", "gen throughput (token/s)", "hit ratio", "to gpu", "to cpu",
    "reserved", "full in",
)  # fmt: skip
_SHORT_LABELS = ("run", "stage", "queue", "token/s", "hit", "to gpu", "to cpu", "reserved", "full in")


def header(snapshot: Snapshot, width: int, theme: Theme, paused: bool = False) -> list[Text]:
    """Return the lines above the list."""
    lines = [_title(snapshot, width, theme, paused), *_messages(snapshot, width, theme)]
    if snapshot.ranks:
        lines += flow([_states(snapshot, theme), *_work(snapshot.totals, width, theme)], width)
        lines += _pools(snapshot.totals, width, theme)
    return lines


def _title(snapshot: Snapshot, width: int, theme: Theme, paused: bool) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.time))
    right = Text(f"PAUSED {clock}", theme.alarm(Severity.WARNING)) if paused else Text(clock)
    left = Text(no_wrap=True).append("hisparse top", "bold").append(f"  {snapshot.about}")
    if len(left.plain) + 2 + len(f"every {snapshot.interval:g}s") + 2 + len(right.plain) <= width:
        left.append(f"  every {snapshot.interval:g}s")
    room = width - right.cell_len - 1
    if room < len("hisparse top"):
        left.truncate(width, overflow="crop")
        return left
    left.truncate(room, overflow="ellipsis", pad=True)
    return left.append(" ").append_text(right)


def _messages(snapshot: Snapshot, width: int, theme: Theme) -> list[Text]:
    """Say in full what is wrong, on as many lines as that takes."""
    lines = []
    if snapshot.trouble:
        ago = f"; last read {duration(snapshot.read_ago)} ago" if snapshot.read_ago is not None else ""
        message = f"{snapshot.trouble}{ago}; trying again every {snapshot.interval:g}s"
        lines = [Text(line, theme.alarm(Severity.WARNING)) for line in folded(message, width)]
    elif snapshot.read_ago is None:
        lines = [Text(line) for line in folded(f"reading {snapshot.about} ...", width)]
    elif snapshot.note:
        lines = [Text(line) for line in folded(snapshot.note, width)]
    return lines


def folded(message: str, width: int) -> list[str]:
    """Fold a sentence at spaces; a word longer than a line is cut into pieces."""
    lines = [""]
    for word in message.split():
        for piece in (word[i : i + width] for i in range(0, len(word), width)):
            joined = f"{lines[-1]} {piece}" if lines[-1] else piece
            if len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(piece)
    return lines


def _states(snapshot: Snapshot, theme: Theme) -> Text:
    """Count the ranks by state; a rank that is alone has a name."""
    ranks = snapshot.ranks
    text = Text(f"{ranks[0].name if len(ranks) == 1 else f'{len(ranks)} ranks'}:", no_wrap=True)
    for state, n in snapshot.totals.states:
        sign, style = theme.state(state)
        words = f"{sign} {state}" if len(ranks) == 1 else f"{sign} {n} {state}"
        text.append(" ").append(words, style)
    return text


def _work(totals: Totals, width: int, theme: Theme) -> list[Text]:
    hit = Text(percent(totals.hit_ratio, 1), "bold")
    severity = theme.vocabulary.severity("hit-ratio", totals.hit_ratio)
    if severity is not Severity.FINE:
        hit = Text(f"{percent(totals.hit_ratio, 1)}!", theme.alarm(severity))
    full_in = ahead(totals.seconds_to_full)
    labels = _LABELS if width >= _WORDY else _SHORT_LABELS
    figures: list[tuple[str | Text, int]] = [
        (full(totals.running), 3),
        (full(totals.staging), 3),
        (full(totals.waiting), 3),
        (throughput(totals.tokens_per_second), 5),
        (hit, 6),
        (bandwidth(totals.host_to_device), 10),
        (bandwidth(totals.device_to_host), 10),
        (short(totals.host_reserved), 5),
        (f"{full_in} {totals.first_full}".rstrip(), 6),
    ]
    return [fact(label, figure, room) for label, (figure, room) in zip(labels, figures, strict=True)]


def _pools(totals: Totals, width: int, theme: Theme) -> list[Text]:
    """Draw both tiers as bars of one width, one under the other."""
    tiers = (
        ("gpu", _figures(totals.device_tokens, totals.device_capacity, width), device_usage),
        ("cpu", _figures(totals.host_tokens, totals.host_capacity, width), host_usage),
    )
    widest = max(len(figure) for _, figure, _ in tiers)
    lines = []
    for tier, figure, drawn in tiers:
        label = f"#{tier}-token: " if width >= _WORDY else f"{tier} "
        line = Text(label, no_wrap=True)
        if line.cell_len + widest + PERCENT < width:
            line.append(figure.rjust(widest), "bold").append(" ")
        room = width - line.cell_len - PERCENT
        room = min(room, _BAR_MOST) if room >= _BAR_LEAST else 0
        lines.append(line.append_text(drawn(totals, room + PERCENT, theme)))
    return lines


def _figures(used: float | None, capacity: float | None, width: int) -> str:
    if used is None:
        return UNKNOWN
    number = full if width >= _WORDY else short
    return f"{number(used)} of {number(capacity)}" if capacity else number(used)
