"""Flags that contradict each other, and places that are not there: one sentence, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.load_generator.cli import command

CLOSED = "http://127.0.0.1:9/v1"  # the discard port: nobody listens


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rate", "1", "--concurrency", "2"], "give either --rate or --concurrency"),
        (["--rate", "0"], "Invalid value for '--rate'"),
        (["--prefix-share", "2"], "Invalid value for '--prefix-share'"),
        (["--api", "chat", "--tokenizer", "."], "--tokenizer: chats are text"),
        (
            ["--url", CLOSED, "--", "--host-tokens", "5"],
            "--host-tokens: the server at --url has its flags already",
        ),
        (["--url", CLOSED, "--out", "absent/x.json"], "--out: absent is no folder"),
        (["--url", CLOSED], "/v1/models: names no model"),
        (["--url", "nonsense"], "nonsense/models: names no model"),
        (["--url", CLOSED, "--lengths", "absent"], "absent: cannot be read"),
        (["--url", CLOSED, "--tokenizer", "."], "no tokenizer.json that can be read there"),
        (["--url", CLOSED, "--api-key-file", "absent"], "absent: cannot be read"),
        (["--url", CLOSED, "--model", "m"], "the first request failed"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, arguments)
    assert problem in result.output
    assert "Traceback" not in result.output
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
