"""``hisparse sidecar parse``: the records of an SGLang log, one JSON object a line. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import click

_MAX_LINE = 1 << 24


@click.command("parse")
@click.argument("log", type=click.File("rb"), default="-", metavar="[FILE|-]")
def command(log: BinaryIO) -> None:
    """Print each decode and prefill record of a log as JSON, with the line on which it ended.

    Reads FILE or standard input: SGLang's log of any version, bare or as Kubernetes, Docker, journald or Ray wrap it,
    and this engine's own. Other lines, and records that were cut, print nothing.

    \b
    hisparse sidecar parse /var/log/sglang/server.log
    kubectl logs --prefix -l app=sglang | hisparse sidecar parse
    hisparse sidecar parse server.log | jq 'select(.host_token_usage > 0.9)'
    """
    import json

    from hisparse_metrics.sglang import LogParser, Record

    parser = LogParser()
    for line in _physical_lines(log):
        for found in parser.feed(line):
            if isinstance(found, Record):
                click.echo(json.dumps({"line": found.line, **found.values}))


def _physical_lines(log: BinaryIO) -> Iterator[bytes]:
    """Yield each line, of a very long one its first 16 MiB."""
    while line := log.readline(_MAX_LINE):
        yield line
        while len(line) == _MAX_LINE and not line.endswith(b"\n"):
            line = log.readline(_MAX_LINE)
