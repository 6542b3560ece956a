from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hisparse_metrics.sidecar.config import SidecarError
from hisparse_metrics.sidecar.plot import COLUMNS, ROWS, draw, highest
from hisparse_metrics.sidecar.report import render, save_picture
from hisparse_metrics.sidecar.summary import Summary, summarise
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
    assert course.above == {0.8: 25.0, 0.9: 25.0, 0.95: 5.0}


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
        "at or above 0.90: 0:00:25", "3  requests retracted", "1  host allocation failures", "1  engine crashes",
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


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_without_matplotlib_a_picture_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="pip install matplotlib"):
        save_picture(DAY, "x.log", tmp_path / "x.png")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_picture_is_a_png(tmp_path: Path) -> None:
    save_picture(DAY, "x.log", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
