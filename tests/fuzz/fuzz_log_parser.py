"""Coverage-guided fuzzing of the SGLang log parser; needs atheris.

    python tests/fuzz/fuzz_log_parser.py -max_total_time=600 CORPUS_FOLDER

Bytes are a log, line by line. A finding is an exception, a count that does not add up, a record without its phase,
a value of a wrong type, or an input that takes long.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from hisparse_metrics.sglang import LogParser, Record

_TYPES = (bool, int, float, str)


def check(data: bytes) -> None:
    """Parse ``data`` and hold the parser to its promises."""
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


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
