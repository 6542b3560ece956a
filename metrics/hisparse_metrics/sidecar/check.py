"""What each source of a configuration matches now, and the last record that would be read from it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from hisparse_metrics.follow.disk import Disk
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sidecar.config import SidecarConfig, WebConfig
from hisparse_metrics.web.listen import parse_listen
from hisparse_metrics.web.policy import PolicyFile

_TAIL_BYTES = 1 << 18
_SHOWN = ("phase", "dp_rank", "tp_rank", "running_requests", "waiting_requests", "device_token_usage",
          "host_token_usage", "token_usage", "full_token_usage", "date", "time")  # fmt: skip


def describe(config: SidecarConfig) -> Iterator[str]:
    """Yield a line for each thing that the sidecar would follow or serve."""
    for pattern in (*config.sources.sglang_log, *config.sources.cri):
        yield from _pattern(pattern)
    for unit in config.sources.journald_unit:
        found = shutil.which("journalctl")
        yield f"journald {unit}: " + (f"by {found}" if found else "journalctl is not installed here")
    if config.sources.stdin:
        yield "standard input: read when the sidecar runs"
    if config.stats_dir:
        found_pages = PageFolder(config.stats_dir).read()
        yield f"stats pages in {config.stats_dir}: {len(found_pages.pages)}, {found_pages.num_up} engines up"
    yield from _web(config.web)
    yield f"state file: {config.state_file or 'none: a restart begins at the end of the logs, counters at 0'}"


def _web(web: WebConfig) -> Iterator[str]:
    """Raise ``ExporterError`` when an address or the web config cannot be used."""
    for address in web.listen_address:
        parse_listen(address)
    if web.config_file:
        PolicyFile(Path(web.config_file))
        yield f"web config {web.config_file}: usable"


def last_record(lines: Iterable[bytes]) -> Record | None:
    """Return the last record that the lines hold."""
    parser, last = LogParser(), None
    for line in lines:
        for item in parser.feed(line):
            last = item if isinstance(item, Record) else last
    return last


def _pattern(pattern: str) -> Iterator[str]:
    paths = Disk().match(pattern)
    yield (
        f"{pattern}: {len(paths)} files" if paths else f"{pattern}: no file yet; it is followed when it comes"
    )
    for path in paths:
        yield f"  {path}: {_file(Path(path))}"


def _file(path: Path) -> str:
    try:
        status = path.stat()
        lines = _tail(path, status.st_size)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    age = max(0, round(time.time() - status.st_mtime))
    return f"{status.st_size} bytes, written {age} s ago; {_record(last_record(lines))}"


def _tail(path: Path, size: int) -> list[bytes]:
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read(_TAIL_BYTES).splitlines()


def _record(record: Record | None) -> str:
    if record is None:
        return "no record in its last 256 KiB"
    shown = " ".join(f"{name}={record.values[name]}" for name in _SHOWN if name in record.values)
    return f"last record: {shown}"
