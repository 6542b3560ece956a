from __future__ import annotations

import json
import logging

from hisparse_metrics.web.logs import FieldsFormatter


def record(message: str, level: int = logging.WARNING, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    found = logging.LogRecord("x", level, "/a/b.py", 7, message, (), info)
    found.created = 1_795_000_000.25
    return found


def test_logfmt_quotes_what_has_to_be() -> None:
    line = FieldsFormatter(as_json=False).format(record('a "b"\nc=d'))
    assert line == ('time=2026-11-18T11:06:40.250+00:00 level=warn source=b.py:7 msg="a \\"b\\"\\nc=d"')
    assert FieldsFormatter(as_json=False).format(record("plain")).endswith(" msg=plain")
    assert FieldsFormatter(as_json=False).format(record("")).endswith(' msg=""')


def test_json_is_one_object_a_line_with_the_error() -> None:
    line = FieldsFormatter(as_json=True).format(record("oh no", logging.CRITICAL, ValueError("why")))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["msg"]) == ("error", "oh no")
    assert "ValueError: why" in fields["error"]
