from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hisparse_engine.commands.sidecar_parse import command

SAMPLE = Path(__file__).parents[2] / "data" / "sglang_sample.jsonl"
ROWS = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
LOG = b"".join(row["line"].encode() + b"\n" for row in ROWS)
EXPECTED = [{"line": at, **row["expected"]} for at, row in enumerate(ROWS, 1) if row["expected"]]


def printed(*args: str, stdin: bytes = b"") -> list[dict[str, object]]:
    done = CliRunner().invoke(command, args, input=stdin)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_records_of_a_file_are_printed_with_their_lines(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(LOG)

    assert printed(str(log)) == EXPECTED


def test_standard_input_is_the_default() -> None:
    assert printed(stdin=LOG) == printed("-", stdin=LOG) == EXPECTED


def test_last_line_needs_no_end() -> None:
    assert printed(stdin=ROWS[0]["line"].encode()) == EXPECTED[:1]


def test_bytes_that_are_no_text_are_passed_over() -> None:
    junk = bytes(range(256)) * 64

    assert printed(stdin=junk + b"\n" + ROWS[0]["line"].encode() + b"\n")[0]["running_requests"] == 5


def test_nothing_recognised_is_no_error() -> None:
    assert printed(stdin=b"") == printed(stdin=b"hello\n") == []


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "none.log")])

    assert done.exit_code == 2
    assert "none.log" in done.output
    assert "Traceback" not in done.output


def test_a_line_without_end_is_read_in_bounded_pieces_and_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hisparse_engine.commands.sidecar_parse._MAX_LINE", 1024)
    line = ROWS[0]["line"].encode() + b"\n"

    for length in (1023, 1024, 1025, 5000):
        assert [record["line"] for record in printed(stdin=line + b"x" * length + b"\n" + line)] == [1, 3]
