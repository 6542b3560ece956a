from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from hisparse_metrics.follow.journald import JournalSource

FAKE = """#!/bin/sh
printf '%s\\n' "$@" >> {folder}/arguments
echo "starting" >&2
cat {folder}/entries
echo "Failed to read the journal" >&2
{then}
"""


class Journal:
    """A journalctl that prints what is in a file, and ends, or waits."""

    def __init__(self, folder: Path, *, waits: bool = False) -> None:
        self.now = 1000.5
        self._folder = folder
        self.program = folder / "journalctl"
        self.program.write_text(FAKE.format(folder=folder, then="exec sleep 60" if waits else ""))
        self.program.chmod(stat.S_IRWXU)
        self.write()

    def write(self, *cursors: str) -> None:
        text = "".join(
            json.dumps({"__CURSOR": c, "MESSAGE": f'"__CURSOR":"fake" {c}'}) + "\n" for c in cursors
        )
        (self._folder / "entries").write_text(text)

    def arguments(self) -> str:
        return (self._folder / "arguments").read_text()

    def source(self, **options: bool) -> JournalSource:
        return JournalSource("j", "sglang", program=str(self.program), clock=lambda: self.now, **options)


def poll_until(source: JournalSource, reason: str, polls: int = 200_000) -> list[bytes]:
    lines: list[bytes] = []
    for _ in range(polls):
        lines += [line for batch in source.poll(1000) for line in batch.lines]
        if reason in source.status().reason:
            return lines
    raise AssertionError(source.status())


def test_entries_are_passed_on_and_the_cursor_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("s=1;i=1", "s=1;i=2")
    source = journal.source()
    lines = poll_until(source, "ended")
    assert [json.loads(line)["__CURSOR"] for line in lines] == ["s=1;i=1", "s=1;i=2"]
    assert source.position() == {"cursor": "s=1;i=2", "since": 1000}
    assert source.status().reason.endswith("ended: Failed to read the journal")
    assert source.status().bytes_read == sum(len(line) + 1 for line in lines)
    assert "--unit=sglang\n" in journal.arguments()
    assert "--since=@1000\n" in journal.arguments()


def test_it_is_started_again_behind_the_last_entry_and_less_and_less_often(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("s=1")
    source = journal.source(from_start=True)
    assert "--since" not in " ".join(source.command())
    poll_until(source, "ended")
    assert source.poll(1000) == []
    journal.write()
    starts = []
    for _ in range(40):
        journal.now += 1.0
        before = journal.arguments().count("--unit")
        if source.poll(0) == [] and source._process:
            poll_until(source, "ended")
            starts.append(journal.arguments().count("--unit") - before)
    assert sum(starts) == 5  # after 1, 2, 4, 8 and 16 seconds
    assert "--after-cursor=s=1\n" in journal.arguments()


def test_a_restart_continues_after_the_cursor_or_at_the_first_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    source = journal.source()
    journal.now = 5000.0
    later = journal.source()
    later.resume(source.position())
    assert "--since=@1000" in later.command()
    later.resume({"cursor": "s=9", "since": 1000})
    assert "--after-cursor=s=9" in later.command()
    with pytest.raises(ValueError, match="not a remembered place"):
        later.resume({})


def test_without_journalctl_the_reason_says_so(tmp_path: Path) -> None:
    source = JournalSource("j", "sglang", program=str(tmp_path / "journalctl"))
    assert source.poll(1000) == []
    assert "journalctl is not installed here" in source.status().reason
    assert not source.status().up


def test_a_program_that_cannot_be_run_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "journalctl").touch()
    source = JournalSource("j", "sglang", program=str(tmp_path / "journalctl"))
    assert source.poll(1000) == []
    assert "cannot be started: Permission denied" in source.status().reason


def test_close_ends_a_journalctl_that_waits(tmp_path: Path) -> None:
    source = Journal(tmp_path, waits=True).source()
    source.poll(1000)
    assert source.status().up
    assert source._process is not None
    process = source._process._process
    source.close()
    assert process.poll() is not None


def test_the_real_journalctl_understands_the_arguments(tmp_path: Path) -> None:
    command = JournalSource("j", "sglang").command()
    command = [word for word in command if word != "--follow"]
    try:
        done = subprocess.run(
            [*command, f"--directory={tmp_path}"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("journalctl is not installed")
    assert "nrecognized" not in done.stderr
    assert "Failed to parse" not in done.stderr
    assert done.returncode == 0, done.stderr
