"""The program's own log on standard error, as exporter-toolkit's flags ask for it: logfmt or JSON lines."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_PLAIN = re.compile(r"[^\s=\"\\]+")


class FieldsFormatter(logging.Formatter):
    """Renders a record's time, level, source, message and exception as ``key=value`` pairs, or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _level(record.levelno),
            "source": f"{record.filename}:{record.lineno}",
            "msg": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields) if self._as_json else _logfmt(fields)


def configure_logging(level: str, log_format: str) -> None:
    """Send every record of at least ``level`` to standard error; replaces what was configured before."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter(as_json=log_format == "json"))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)


def _level(number: int) -> str:
    return next((name for name, at_most in LEVELS.items() if number <= at_most), "error")


def _logfmt(fields: dict[str, str]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
