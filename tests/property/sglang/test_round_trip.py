from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sglang.records import Value
from tests.property.sglang.lines import Line, lines, wrapped

NUMBER = re.compile(r"[0-9.]+")


def records(*physical: str | bytes, parser: LogParser | None = None) -> list[Record]:
    parser = parser or LogParser()
    found = [one for line in physical for one in parser.feed(line)] + parser.finish()
    return [one for one in found if isinstance(one, Record)]


def typed(values: object) -> object:
    assert isinstance(values, dict)
    return {key: (type(value), value) for key, value in values.items()}


@settings(max_examples=400)
@given(wrapped())
def test_a_rendered_record_parses_back(drawn: tuple[list[str], dict[str, Value]]) -> None:
    physical, values = drawn
    (record,) = records(*physical)

    assert typed(record.values) == typed(values)
    assert (record.line, record.unknown_fields) == (len(physical), 0)


@settings(max_examples=100)
@given(st.lists(lines(), max_size=6))
def test_what_was_read_before_changes_nothing(drawn: list[Line]) -> None:
    """The second time each line has a known shape; it must read the same."""
    twice = [line.text for line in drawn] * 2
    found = records(*twice)

    assert [typed(one.values) for one in found] == [typed(line.values) for line in drawn] * 2


@given(lines(), st.data())
def test_an_unknown_field_anywhere_is_skipped_and_counted(line: Line, data: st.DataObject) -> None:
    marker, body = re.split(r"(?<=batch)", line.text, maxsplit=1)
    parts = body.split(", #")
    at = data.draw(st.integers(1, len(parts) - 1))
    parts.insert(at, f"new-thing: {data.draw(st.sampled_from(('7', '0.5 ms', 'yes', '41.50%')))}")
    (record,) = records(marker + ", #".join(parts))

    assert record.values == line.values
    assert record.unknown_fields == 1


@settings(max_examples=300)
@given(lines(), st.data())
def test_a_line_cut_anywhere_says_nothing_new(line: Line, data: st.DataObject) -> None:
    """Only a last count of a kind of line that ends in one may be cut unnoticed."""
    text = line.text[: data.draw(st.integers(0, len(line.text) - 1))]
    for record in records(text):
        differing = record.values.items() - line.values.items()
        assert {key for key, _ in differing} <= {"waiting_requests"}
        assert not differing or text.endswith(str(record.values["waiting_requests"]))


@settings(max_examples=300)
@given(lines(), lines(), st.data())
def test_spliced_lines_say_nothing_that_neither_said(first: Line, second: Line, data: st.DataObject) -> None:
    """A message interrupted by another: the second is whole, the first only when nothing of it is missing."""
    text = first.text[: data.draw(st.integers(0, len(first.text) - 1))] + second.text
    said = [first.values, second.values]
    for record in records(text):
        keys = record.values.keys() - {"waiting_requests", "date", "time", "phase"}
        keys = {key for key in keys if not key.endswith("_rank")}
        assert any(all(record.values[key] == values.get(key) for key in keys) for values in said)


@settings(max_examples=300)
@given(lines(), st.data())
def test_a_changed_line_never_raises_and_keeps_types(line: Line, data: st.DataObject) -> None:
    text = bytearray(line.text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not text:
            break
    for record in records(bytes(text)):
        for key, value in record.values.items():
            if key in line.values:
                assert type(value) is type(line.values[key])


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=200), lines().map(lambda line: line.text)))
)
def test_any_bytes_are_counted_once(physical: list[str | bytes]) -> None:
    parser = LogParser()
    records(*physical, parser=parser)

    assert parser.lines == len(physical)
    assert parser.parsed + parser.malformed + parser.ignored == parser.lines
    assert min(parser.parsed, parser.malformed, parser.ignored) >= 0
