from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from hisparse_metrics.sglang import EventKind
from hisparse_metrics.sidecar.config import SidecarError
from hisparse_metrics.sidecar.log_clock import show
from hisparse_metrics.sidecar.picture import COLUMNS as COLUMNS_OF_PICTURE
from hisparse_metrics.sidecar.picture import buckets, save_picture
from hisparse_metrics.sidecar.plot import COLUMNS, ROWS, draw, highest
from hisparse_metrics.sidecar.ranks import RankKey
from hisparse_metrics.sidecar.report import render
from hisparse_metrics.sidecar.summary import Course, Summary, summarise
from tests.unit.sidecar.support import ACCESS, CRASH, NO_HOST, RETRACT, decode, prefill


def summary_of(*lines: str) -> Summary:
    return summarise(line.encode() for line in lines)


DAY = summary_of(
    decode(1, "0.50", clock="14:00:00"),
    decode(2, "0.92", clock="14:00:10"),
    decode(3, "0.97", clock="14:00:30"),
    decode(4, "0.10", clock="14:00:35"),
    prefill(100, 7), RETRACT, NO_HOST, CRASH, ACCESS, decode()[:90],
)  # fmt: skip


def test_peak_and_time_above_each_threshold() -> None:
    course = DAY.courses["host_token_usage"]
    assert course.peak[0] == 0.97
    assert course.above == {0.85: 25.0, 0.95: 5.0}


def test_silence_is_not_usage() -> None:
    quiet = summary_of(decode(1, "0.97", clock="14:00:00"), decode(1, "0.97", clock="15:00:00"))
    assert quiet.courses["host_token_usage"].above[0.95] == 60.0


def test_ranks_are_timed_apart() -> None:
    lines = [decode(1, "0.97", clock=f"14:00:{s:02}", ranks=f" TP{s % 2}") for s in range(21)]
    assert summary_of(*lines).courses["host_token_usage"].above[0.95] == pytest.approx(38.0)


def test_the_page_tells_it_all() -> None:
    page = render(DAY, "x.log")
    for text in (
        "x.log: 10 lines, 1 malformed", "4 decode and 1 prefill records", "host usage: peak 0.97 at 2026-04-08 14:00:30",
        "at or above 0.85: 0:00:25", "3  requests retracted", "1  host allocation failures", "1  engine crashes",
        "100  prompt tokens computed", "7  prompt tokens from cache",
    ):  # fmt: skip
        assert text in page, page
    assert max(map(len, page.splitlines())) < 110


def test_an_empty_log_is_a_short_page() -> None:
    assert "0 decode and 0 prefill records" in render(summary_of("nothing"), "x.log")


def test_a_plot_keeps_every_peak() -> None:
    times, values = [float(t) for t in range(1000)], [0.1] * 1000
    values[777] = 1.0
    columns = highest(times, values)
    assert columns.index(1.0) == int(777 / (999 / COLUMNS))
    lines = list(draw(times, values))
    assert len(lines) == ROWS + 1
    assert lines[0].count("#") == 1
    assert lines[-2].count("#") == COLUMNS


def test_a_plot_of_one_moment_has_one_column() -> None:
    assert sum(line.count("#") for line in draw([5.0], [1.0])) == ROWS


def test_a_course_is_drawn_with_its_extremes_and_its_gaps() -> None:
    course = Course()
    for time in range(10_000):
        course.add(RankKey(), float(time), 0.9 if time == 777 else 0.1 if time == 5000 else 0.5)
    course.add(RankKey(), 20_000.0, 0.7)
    first, last = buckets(course, 0.0, 20_000.0)
    assert max(bucket.high for bucket in first) == 0.9
    assert min(bucket.low for bucket in first) == 0.1
    assert [(bucket.low, bucket.high) for bucket in last] == [(0.7, 0.7)]
    assert len(first) <= COLUMNS_OF_PICTURE


def test_the_time_of_each_event_is_kept() -> None:
    [retraction] = DAY.events[EventKind.RETRACTION]
    assert show(retraction) == "2026-04-08 14:10:00"


def test_without_matplotlib_a_picture_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SidecarError, match=r"pip install 'hisparse\[report\]'"):
        save_picture(DAY, "x.log", tmp_path / "x.png")


needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)


def colours(png: Path) -> set[str]:
    """Return the colours that a good part of the picture has."""
    pixels = importlib.import_module("matplotlib.image").imread(str(png))[:, :, :3]
    counts = Counter(map(tuple, (pixels.reshape(-1, 3) * 255).round().astype(int).tolist()))
    return {"#{:02X}{:02X}{:02X}".format(*colour) for colour, count in counts.items() if count > 20}


@needs_matplotlib
@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (DAY, {"#E69F00", "#0072B2"}),
        (summary_of(decode(clock="14:00:00")), {"#E69F00", "#0072B2"}),
        (summary_of("nothing"), set()),
        (summary_of(RETRACT, CRASH), set()),
    ],
    ids=["day", "one record", "nothing", "only events"],
)
def test_a_picture_is_a_png_with_both_usages(tmp_path: Path, log: Summary, expected: set[str]) -> None:
    save_picture(log, "x.log", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert {"#E69F00", "#0072B2"} & colours(tmp_path / "x.png") == expected


@needs_matplotlib
def test_a_picture_that_cannot_be_written_is_a_mistake_that_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match=r"cannot write .*none/x\.png: No such file"):
        save_picture(DAY, "x.log", tmp_path / "none/x.png")
