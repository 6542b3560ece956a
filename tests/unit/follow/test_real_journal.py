"""The real ``journalctl`` over a real journal, written by systemd's own tool; no journal of this machine is touched."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hisparse_metrics.follow.journald import JournalSource
from hisparse_metrics.sglang import LogParser, Record
from tests.support.programs import require_program
from tests.unit.sidecar.support import decode

WAIT_S = 30.0


class Journal:
    """A journal file, and a ``journalctl`` that reads it instead of the machine's."""

    def __init__(self, folder: Path) -> None:
        self._writer = require_program("systemd-journal-remote")
        self._file = folder / "system.journal"
        self._num_entries = 0
        self.program = folder / "journalctl"
        reader = shlex.join([str(require_program("journalctl")), f"--file={self._file}"])
        self.program.write_text(f'#!/bin/sh\nexec {reader} "$@"\n')
        self.program.chmod(stat.S_IRWXU)

    def write(self, *messages: bytes, unit: str = "sglang.service") -> None:
        """Append an entry for each message."""
        libraries = [path.parent for path in self._writer.parents[2].glob("usr/lib/*/libmicrohttpd.so.*")]
        done = subprocess.run(
            [str(self._writer), f"--output={self._file}", "-"],
            input=b"".join(self._entry(message, unit) for message in messages),
            env=os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))},
            capture_output=True, check=False, timeout=WAIT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def source(self) -> JournalSource:
        return JournalSource("journald:sglang", "sglang", from_start=True, program=str(self.program))

    def _entry(self, message: bytes, unit: str) -> bytes:
        self._num_entries += 1
        fields = {
            "__REALTIME_TIMESTAMP": 1_500_000_000_000_000 + self._num_entries,
            "__MONOTONIC_TIMESTAMP": self._num_entries,
            "_BOOT_ID": "0123456789abcdef0123456789abcdef",
            "_SYSTEMD_UNIT": unit,
        }
        text = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
        return text + b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def hosts(source: JournalSource, count: int) -> list[object]:
    """Poll until that many entries came; return the host tokens of the records in them."""
    return [item.values["host_tokens"] for item in records(lines(source, count))]


def lines(source: JournalSource, count: int) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + WAIT_S
    while len(found) < count:
        assert time.monotonic() < deadline, (source.status(), found)
        found += [line for batch in source.poll(1 << 16) for line in batch.lines]
    assert len(found) == count
    return found


def records(physical: list[bytes]) -> Iterator[Record]:
    parser = LogParser()
    for line in physical:
        yield from (item for item in parser.feed(line) if isinstance(item, Record))


def test_a_unit_is_followed_and_continued_behind_its_last_entry(journal: Journal) -> None:
    journal.write(decode(1).encode(), b"nothing", decode(2).encode())
    journal.write(decode(99).encode(), unit="another.service")
    first = journal.source()
    assert hosts(first, 3) == [1, 2]
    journal.write(decode(3).encode())
    assert hosts(first, 1) == [3]
    assert first.status().up
    position = first.position()
    first.close()

    journal.write(decode(4).encode())
    second = journal.source()
    second.resume(position)
    assert hosts(second, 1) == [4]
    second.close()


def test_a_line_that_is_no_plain_text_is_read_too(journal: Journal) -> None:
    """The journal gives such a message as a list of bytes."""
    journal.write(b"\x1b[36m" + decode(5).encode() + b"\x1b[0m\xff\x01")
    source = journal.source()
    (line,) = lines(source, 1)
    source.close()
    assert b'"MESSAGE":[27,' in line.replace(b" ", b"")
    assert not list(records([line])), "bytes behind the last number may be a part of it"

    journal.write(b"\x01\xff\r" + decode(6).encode())
    source = journal.source()
    assert hosts(source, 2) == [6]
    source.close()
