"""The screen at every width: what is on it, what it never does, and that no meaning is in a colour alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("rich", reason="the drawing needs rich")

from rich.console import Console, Group
from rich.text import Text

from hisparse_metrics.top.draw.cells import columns, seconds_of
from hisparse_metrics.top.draw.columns import device_usage
from hisparse_metrics.top.draw.meters import bar, chart, sparkline
from hisparse_metrics.top.draw.screen import screen
from hisparse_metrics.top.draw.theme import ASCII, UNICODE, Theme
from hisparse_metrics.top.history import CurvePoint
from hisparse_metrics.top.look import Look
from hisparse_metrics.top.vocabulary import Severity, load_vocabulary
from tests.unit.top.golden_screens import FOLDER, SCREENS, THEME, THREE, drawn
from tests.unit.top.support import BUSY, KEY, MANY, STUCK, VOCABULARY, snapshot

SIZES = [(width, height) for width in (1, 19, 20, 40, 57, 80, 120, 200, 400) for height in (1, 4, 9, 24, 60)]


@pytest.mark.parametrize("name", SCREENS)
def test_screens_look_as_they_did(name: str) -> None:
    assert drawn(name) == (FOLDER / f"{name}.txt").read_text(), (
        "if this is meant: python -m tests.unit.top.golden_screens, and read the diff"
    )


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SCREENS)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_screen_never_exceeds_its_size(width: int, height: int) -> None:
    named = replace(BUSY, name="ein-sehr-langer-name " * 5, about="模型" * 40)
    for frame in (snapshot(), snapshot(named), THREE, MANY, snapshot(BUSY, trouble="x" * 300)):
        for look in (Look(), Look(help=True), Look(paused=True, cursor=KEY._replace(dp_rank="39"))):
            lines = screen(frame, look, width, height, THEME)
            assert len(lines) <= height
            assert max(line.cell_len for line in lines) <= width


def test_an_unknown_figure_is_a_dash_and_zero_is_zero() -> None:
    [line] = [row for row in drawn("three_ranks_120").splitlines() if "glm dp1" in row and "down" in row]
    assert line.split()[4:] == ["-"] * (len(line.split()) - 4)
    assert "0.0s" not in line


def every_glyph(lines: list[Text]) -> Iterator[str]:
    yield from "".join(line.plain for line in lines)


def test_ascii_is_ascii() -> None:
    for frame in (THREE, MANY, snapshot(BUSY), snapshot(BUSY, trouble="gone")):
        lines = screen(frame, Look(), 120, 40, Theme(VOCABULARY, ASCII))
        text = "".join(every_glyph(lines)).replace(" · ", "").replace("…", "")
        assert text.isascii()


def rendered(theme: Theme, **options: object) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=120, height=36, force_terminal=True, color_system="truecolor", **options
    )  # type: ignore[arg-type]
    console.print(Group(*screen(THREE, Look(), 120, 36, theme)))
    return out.getvalue()


def test_no_color_has_no_colours_and_keeps_the_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = rendered(THEME)
    assert "\x1b[38;2;" in coloured
    assert ";48;2;" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = rendered(THEME)
    assert "38;2" not in plain
    assert "48;2" not in plain
    assert "95%!" in plain
    assert "stalled" in plain


def test_without_a_vocabulary_it_still_draws() -> None:
    text = "".join(every_glyph(screen(THREE, Look(), 80, 24, Theme())))
    assert "95%" in text
    assert "95%!" not in text


def test_levels_are_the_dashboards() -> None:
    generated = load_vocabulary()
    assert {"device", "host", "reserved", "good", "warning", "critical"} <= generated.colors.keys()
    steps = [start for start, severity in generated.levels["host-usage"] if severity is not Severity.FINE]
    assert len(steps) == 2
    below, at = steps[0] - 1e-6, steps[0]
    assert generated.severity("host-usage", below) is Severity.FINE
    assert generated.severity("host-usage", at) is Severity.WARNING
    assert generated.severity("host-usage", steps[1]) is Severity.CRITICAL
    assert generated.severity("hit-ratio", 0.0) is Severity.WARNING
    assert generated.severity("hit-ratio", 0.8999999999999) == generated.severity("hit-ratio", 0.9)
    assert generated.severity("hit-ratio", None) is Severity.FINE
    assert generated.silence(generated.stalled_seconds) is Severity.CRITICAL


def test_no_text_is_in_a_pale_colour_on_the_terminals_own_background() -> None:
    """Yellow on white cannot be read: a warning brings its own background."""
    for line in screen(THREE, Look(), 200, 40, THEME):
        for span in line.spans:
            style, text = str(span.style), line.plain[span.start : span.end]
            if VOCABULARY.colors["warning"] in style and any(c.isalnum() for c in text):
                assert f"on {VOCABULARY.colors['warning']}" in style


@pytest.mark.parametrize(
    ("usage", "reserved", "expected"),
    [
        (0.0, 0.0, "··········"),
        (0.001, 0.0, "▏·········"),
        (0.5, 0.0, "█████·····"),
        (0.55, 0.2, "█████▌▒▒··"),
        (1.0, 0.0, "██████████"),
        (1.2, 0.5, "██████████"),
        (None, 0.0, "          "),
    ],
)
def test_bars(usage: float | None, reserved: float, expected: str) -> None:
    assert bar(usage, 10, "host", THEME, reserved).plain == expected


@pytest.mark.parametrize(
    ("spare", "figure", "expected"), [(25.0, "100% ", "███████▌▒▒"), (1.0, "100%!", "█████████▉")]
)
def test_a_device_pool_is_loud_only_where_it_is_not_full_of_spare(
    spare: float, figure: str, expected: str
) -> None:
    levels = {"device-usage": ((-math.inf, Severity.FINE), (0.98, Severity.WARNING))}
    full = replace(BUSY, device_capacity=100.0, device_usage=1.0, device_spare=spare)
    drawn = device_usage(full, 16, Theme(replace(VOCABULARY, levels=levels)))
    assert drawn.plain == f"{expected} {figure}"


def test_zero_is_told_from_a_gap() -> None:
    assert sparkline([0.0, None, 0.5, 1.0], 1.0, "host", THEME).plain == "▁ ▄█"
    assert sparkline([None, None], None, "host", THEME).plain == "  "
    assert sparkline([0.0, 0.0], None, "host", THEME).plain == "▁▁"


def test_charts_stand_on_their_lowest_line() -> None:
    assert [line.plain for line in chart([0.0, 0.5, 0.75, 1.0], 2, 1.0, "host", THEME)] == ["  ▄█", "▁███"]


def test_only_the_tip_of_a_bad_column_is_in_the_colour_of_its_level() -> None:
    lines = chart([0.5, 0.95], 4, 1.0, "host", THEME, "host-usage")
    styles = [[str(span.style) for span in line.spans if line.plain[span.start] != " "] for line in lines]
    host, critical = VOCABULARY.colors["host"], VOCABULARY.colors["critical"]
    assert styles == [[critical], [host], [host, host], [host, host]]


def points(*moments: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(moment, None, moment, None, None) for moment in moments)


def test_columns_are_aligned_to_the_clock_not_to_the_newest_point() -> None:
    first = columns(points(*range(100, 110)), lambda point: point.host_usage, 5, 2.0)
    later = columns(points(*range(101, 112)), lambda point: point.host_usage, 5, 2.0)
    assert first == [100.5, 102.5, 104.5, 106.5, 108.5]
    assert later == [102.5, 104.5, 106.5, 108.5, 110.5]


def test_a_late_reading_leaves_no_hole_and_an_outage_does() -> None:
    assert columns(points(100, 102, 103), lambda p: p.host_usage, 4, 1.0) == [100, 100, 102, 103]
    holes = columns(points(100, 106), lambda p: p.host_usage, 7, 1.0)
    assert holes == [100, 100, 100, None, None, None, 106]


def test_a_young_curve_fills_a_short_span() -> None:
    assert seconds_of(points(0, 30), 60, 1.0) == 1.0
    assert seconds_of(points(0, 800), 60, 1.0) == 15.0
    assert seconds_of(points(0, 30), 60, 5.0) == 5.0


def test_the_cursor_stays_in_view_and_its_rank_is_detailed() -> None:
    for place in (0, 17, 39):
        frame = replace(MANY, ranks=MANY.ranks)
        look = Look(cursor=MANY.ranks[place].key)
        text = [line.plain for line in screen(frame, look, 80, 24, THEME)]
        assert sum(row.startswith(UNICODE.cursor) for row in text) == 1
        assert any(row.startswith("── " + MANY.ranks[place].name) for row in text)


def test_a_defect_is_shouted() -> None:
    text = "".join(every_glyph(screen(snapshot(replace(STUCK, violations=2)), Look(), 120, 30, THEME)))
    assert "verify mismatches: 1!" in text
    assert "invariant violations: 2!" in text
