"""Glyphs and styles: what a meaning looks like on this terminal.

No style sets a background except those of a warning, which set both colours: so everything is legible on dark and on
light terminals. No meaning is in a colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hisparse_metrics.top.state import State
from hisparse_metrics.top.vocabulary import Severity, Vocabulary


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that things are drawn with. ``levels`` go from low to high, ``parts`` from narrow to full."""

    levels: str
    parts: str
    beyond: str
    empty: str
    cursor: str
    up: str
    idle: str
    bad: str
    unknown: str
    dot: str
    rule: str


UNICODE = Glyphs(
    levels="▁▂▃▄▅▆▇█", parts="▏▎▍▌▋▊▉█", beyond="▒", empty="·", cursor="▸", up="●", idle="○", bad="✕", unknown="?",
    dot="·", rule="─",
)  # fmt: skip
ASCII = Glyphs(
    levels="_.:-=+*#", parts="#", beyond="=", empty=".", cursor=">", up="*", idle="o", bad="X", unknown="?",
    dot="|", rule="-",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Theme:
    """How to draw: glyphs that the terminal can show, and the dashboards' colours and levels."""

    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    glyphs: Glyphs = UNICODE

    def color(self, meaning: str) -> str:
        """Return the style of a meaning: its colour as the foreground, or nothing without one."""
        return self.vocabulary.colors.get(meaning, "")

    def alarm(self, severity: Severity) -> str:
        """Return the style of a figure that is so bad."""
        if severity is Severity.FINE:
            return ""
        color = self.color(severity.name.lower())
        return f"bold #000000 on {color}" if color else "bold reverse"

    def state(self, state: State) -> tuple[str, str]:
        """Return a state's sign and style."""
        glyphs = self.glyphs
        match state:
            case State.DOWN:
                return glyphs.bad, self.alarm(Severity.CRITICAL)
            case State.STALLED:
                return "!", self.alarm(Severity.CRITICAL)
            case State.UNREAD | State.SILENT:
                return glyphs.unknown, self.alarm(Severity.WARNING)
            case State.UP:
                return glyphs.up, self.color("good")
            case State.IDLE:
                return glyphs.idle, ""


MARKS = {Severity.FINE: " ", Severity.WARNING: "!", Severity.CRITICAL: "!"}
"""What follows a figure, so that a bad one is told without colours too."""
