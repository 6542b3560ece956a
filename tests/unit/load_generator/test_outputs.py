"""What a run leaves: a file that has everything, a picture that shows it, a table that says it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from rich.console import Console

from benchmarks.load_generator.picture import DEVICE, HOST, RESERVED, retraction_times, save_picture
from benchmarks.load_generator.records import Outcome, Record, Run, Sample, write_json
from benchmarks.load_generator.settings import Objective
from benchmarks.load_generator.summary import summarise
from benchmarks.load_generator.table import print_run

TOKENS = "#009E73"
ABOUT: dict[str, Any] = {
    "server": {"model": "m"},
    "machine": {"load_average_before": 0.5, "cores": 2},
    "settings": {"load": {"rate": 2.0, "concurrency": None}, "slo": {"ttft": 2.0, "itl": 0.2}},
    "generator": {"cpu_share": 0.01},
}


def make_run(num: int = 40, *, metrics: bool = True) -> Run:
    records = [
        Record(
            number=i, chat=i, turn=0, scheduled=i / 2, limit=9, sent=i / 2,
            tokens_at=[i / 2 + 0.3 + 0.05 * t for t in range(9)], ended=i / 2 + 0.8, outcome=Outcome.OK,
            prompt_tokens=100, cached_tokens=50, output_tokens=9, digest="ab",
        )
        for i in range(num)
    ]  # fmt: skip
    for record in records[::9]:
        record.outcome, record.tokens_at, record.refused_at = Outcome.REFUSED, [], [record.sent]
        record.message, record.retry_after = "429: full", 2.0
    samples = [
        Sample(
            float(t), device_usage=0.5, host_usage=t / num, host_tokens=100.0 * t, host_reserved=500.0,
            host_capacity=100.0 * num, running=3, waiting=t % 5, retractions=t // 7, computed_prompt_tokens=50 * t,
        )
        for t in range(num // 2)
    ]  # fmt: skip
    run = Run(dict(ABOUT), records, samples if metrics else [])
    run.summary = summarise(run.records, run.samples, Objective())
    return run


def test_a_file_has_everything_and_a_row_a_line(tmp_path: Path) -> None:
    run = make_run()
    write_json(tmp_path / "x.json", run.to_json())
    text = (tmp_path / "x.json").read_text()
    again = Run.from_json(json.loads(text))
    assert [vars(a) for a in again.records] == [
        vars(b) | {"tokens_at": [round(t, 4) for t in b.tokens_at]} for b in run.records
    ]
    assert (again.samples, again.about) == (run.samples, run.about)
    assert again.records[0].outcome is Outcome.REFUSED
    assert sum(line.strip().startswith('{"number"') for line in text.splitlines()) == len(run.records)


def test_a_short_file_keeps_what_latencies_need() -> None:
    run = make_run()
    short = Run.from_json(run.to_json(every_token=False))
    assert {len(record.tokens_at) for record in short.records} == {0, 2}
    for long, brief in zip(run.records, short.records, strict=True):
        assert brief.ttft == pytest.approx(long.ttft)
        assert brief.mean_itl == pytest.approx(long.mean_itl)


def colours(png: Path) -> Counter[str]:
    pixels = (matplotlib.image.imread(str(png))[:, :, :3].reshape(-1, 3) * 255).round().astype(int)
    return Counter("#{:02X}{:02X}{:02X}".format(*pixel) for pixel in pixels.tolist())


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        (make_run(), {DEVICE, HOST, RESERVED, TOKENS}),
        (make_run(metrics=False), {TOKENS}),
        (make_run(0), set()),
    ],
    ids=["all", "no metrics", "nothing"],
)
def test_a_picture_shows_what_there_is(tmp_path: Path, run: Run, shown: set[str]) -> None:
    save_picture(run, tmp_path / "x.png")
    png = (tmp_path / "x.png").read_bytes()
    size = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    assert (png[:8], size) == (b"\x89PNG\r\n\x1a\n", (1210, 1056))
    found = colours(tmp_path / "x.png")
    assert len(found) > 20  # not blank: letters at least
    assert {colour for colour in (DEVICE, HOST, RESERVED, TOKENS) if found[colour] > 20} == shown


def test_a_retraction_is_marked_where_it_is_first_counted() -> None:
    counts = [(0.0, 5), (1.0, 5), (2.0, None), (3.0, 7), (4.0, 7)]
    samples = [Sample(time, retractions=count) for time, count in counts]
    assert retraction_times(samples) == [3.0, 3.0]


def test_a_table_says_what_matters() -> None:
    console = Console(record=True, width=100, file=None)
    with console.capture() as capture:
        print_run(make_run(), console)
    text = capture.get()
    for part in (
        "time to first token  300.0 ms", "inter-token latency   50.0 ms", "35 ok, 5 refused",
        "5, Retry-After 2 s", "3,500, of which 1,750 cached (50%)", "retractions          2", "1.0% of a core",
        "5 times              429: full",
    ):  # fmt: skip
        assert part in text


def test_a_generator_that_cannot_keep_up_says_so() -> None:
    console, run = Console(width=100), make_run()
    run.about["generator"] = {"cpu_share": 0.9}
    with console.capture() as capture:
        print_run(run, console)
    assert "90.0% of a core, late by 0.0 ms at p99; it is a bottleneck itself" in capture.get()
