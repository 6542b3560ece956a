"""What must hold for any bytes: the promises that fuzzing tries to break. Needs no atheris."""

from __future__ import annotations

import time
from collections.abc import Callable

from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sidecar.skim import READ, Decode, Verdicts

_TYPES = (bool, int, float, str)
_OTHER_DIGITS = bytes.maketrans(b"0123456789", b"9876543210")
_SECONDS_PER_BYTE = 8e-6
_SECONDS = 0.02
"""Twenty times what lines take, instrumented; a quadratic search in 4 KiB takes more."""


def parsing_holds(data: bytes) -> None:
    """Parse ``data`` as a log: no exception, counts that add up, whole records, values of plain types, linear time."""
    parser = LogParser()
    physical = data.split(b"\n")
    for number, line in enumerate(physical, 1):
        for found in parser.feed(line):
            assert found.line == number
            assert all(isinstance(value, _TYPES) for value in found.values.values())
            if isinstance(found, Record):
                assert found.values["phase"] in {"decode", "prefill"}
                assert "waiting_requests" in found.values
    parser.finish()
    assert parser.lines == len(physical)
    assert parser.parsed + parser.malformed + parser.ignored == parser.lines
    assert min(parser.parsed, parser.malformed, parser.ignored) >= 0


def skimming_holds(data: bytes) -> None:
    """Learn what each line comes to, and hold the verdict on the same line with other digits against its reading."""
    for line in data.split(b"\n"):
        parser, other, verdicts = LogParser(), LogParser(), Verdicts()
        items = parser.feed(line)
        if parser.has_pending or parser.malformed:
            continue
        verdicts.learn(line, items)
        changed = line.translate(_OTHER_DIGITS)
        (verdict,) = verdicts.of([changed])
        if verdict is READ:
            continue
        found = other.feed(changed)
        assert not other.has_pending
        assert not other.malformed
        assert bool(found) == isinstance(verdict, Decode)
        if isinstance(verdict, Decode):
            assert found == LogParser().feed(changed[verdict.inside])
            assert isinstance(found[0], Record)
            assert found[0].unknown_fields == verdict.unknown_fields


def takes_linear_time(check: Callable[[bytes], None], data: bytes) -> None:
    """Run ``check``; three runs that all take too long for the length are a finding."""
    limit = _SECONDS + _SECONDS_PER_BYTE * len(data)
    assert any(_seconds(check, data) < limit for _ in range(3)), f"more than {limit:.3f} s"


def _seconds(check: Callable[[bytes], None], data: bytes) -> float:
    begin = time.process_time()
    check(data)
    return time.process_time() - begin
