"""``hisparse sidecar parse``: the records of an SGLang log, one JSON object a line. Needs no torch."""

from __future__ import annotations

from typing import BinaryIO

import click


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
    import sys

    from hisparse_metrics.sglang import LogParser, Record

    parser = LogParser()
    for line in log:
        for found in parser.feed(line):
            if isinstance(found, Record):
                sys.stdout.write(json.dumps({"line": found.line, **found.values}) + "\n")
