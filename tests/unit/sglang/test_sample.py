from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hisparse_metrics.sglang import Event, LogParser, Record

SAMPLE = Path(__file__).parents[2] / "data" / "sglang_sample.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
LABELLED = [row for row in ROWS if row["expected"]]


def records(found: list[Record | Event]) -> list[Record]:
    return [one for one in found if isinstance(one, Record)]


def typed(values: Any) -> dict[str, tuple[type, Any]]:
    """``1``, ``1.0`` and ``True`` are equal, but not the same."""
    return {key: (type(value), value) for key, value in values.items()}


@pytest.mark.parametrize("row", LABELLED, ids=lambda row: row["line"][:60])
def test_labelled_line_has_exactly_its_record(row: dict[str, Any]) -> None:
    (record,) = records(LogParser().feed(row["line"]))

    assert typed(record.values) == typed(row["expected"])
    assert (record.line, record.unknown_fields) == (1, 0)


def test_sample_read_as_one_stream_has_the_same_records() -> None:
    """What a parser remembers of earlier lines (shapes, partial lines) changes nothing."""
    parser = LogParser()
    found = [record for row in ROWS for record in records(parser.feed(row["line"].encode() + b"\n"))]

    expected = [(at, typed(row["expected"])) for at, row in enumerate(ROWS, 1) if row["expected"]]
    assert [(record.line, typed(record.values)) for record in found] == expected


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row["expected"]], ids=lambda row: row["kind"] + row["line"][:50]
)
def test_other_cut_and_spliced_lines_have_no_record(row: dict[str, Any]) -> None:
    assert not records(LogParser().feed(row["line"]))


@pytest.mark.parametrize("row", LABELLED[::3], ids=lambda row: row["line"][:60])
def test_a_record_cut_anywhere_says_nothing_that_the_whole_does_not_say(row: dict[str, Any]) -> None:
    """Only the last number of a line may end anywhere: nothing in the line tells that digits are missing."""
    line, last = row["line"], ("waiting_requests",)
    for length in range(len(line)):
        for record in records(LogParser().feed(line[:length])):
            differing = record.values.items() - row["expected"].items()
            assert {key for key, _ in differing} <= set(last), line[:length]
            assert not differing or row["expected"]["phase"] == "decode" or "batch. " in line


def test_lines_are_counted_by_outcome() -> None:
    parser = LogParser()
    for row in ROWS:
        parser.feed(row["line"])
    parser.finish()

    assert parser.lines == len(ROWS)
    assert parser.parsed + parser.malformed + parser.ignored == parser.lines
    assert parser.parsed == len(LABELLED) + 1  # one negative is an event
    assert parser.malformed == 7 + 1  # seven have a marker and no whole record; one never got its end
