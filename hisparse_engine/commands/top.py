"""``hisparse top``: the split of every rank, live in a terminal. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

_ORDERS = ("full", "state", "throughput", "hit-ratio", "name")
_INTERRUPTED = 130


@click.command("top")
@click.argument("url", required=False)
@click.option(
    "--stats-dir",
    type=click.Path(path_type=Path),
    help="Folder with the stats pages of this machine's engines, instead of a URL.",
)
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between two reads.",
)
@click.option(
    "--sort",
    default=_ORDERS[0],
    show_default=True,
    type=click.Choice(_ORDERS),
    help="Which rank comes first: the host pool that is full soonest, the worst state, ...",
)
@click.option("--once", is_flag=True, help="Print one snapshot as plain text and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one snapshot as a JSON object and exit.")
@click.option(
    "--ca-file", type=click.Path(path_type=Path), help="Certificates (PEM) to trust for an https URL."
)
@click.option(
    "--password-file", type=click.Path(path_type=Path), help="File with the password of the URL's user."
)
@click.pass_context
def command(
    ctx: click.Context,
    url: str | None,
    stats_dir: Path | None,
    interval: float,
    sort: str,
    once: bool,
    as_json: bool,
    ca_file: Path | None,
    password_file: Path | None,
) -> None:
    """Show device and host tokens of every rank, live, the rank that runs out of host tokens soonest first.

    \b
    hisparse top                                   the engines of this machine
    hisparse top gpu-7:9477                        an exporter or sidecar elsewhere
    hisparse top http://127.0.0.1:8000/metrics     a vLLM server with HiSparse
    hisparse top https://ops@gpu-7:9477 --password-file pw --ca-file ca.pem
    hisparse top --json | jq .totals.host_usage

    Without URL and --stats-dir: $HISPARSE_STATS_DIR if set, else the exporter on http://127.0.0.1:9477 if it
    answers, else this user's folder in /dev/shm. Without a terminal it prints one snapshot. Keys: ? shows them.
    """
    from hisparse_metrics.top.choose import choose_source
    from hisparse_metrics.top.command import TopOptions, show
    from hisparse_metrics.top.order import Order

    order = Order[sort.upper().replace("-", "_")]
    try:
        source = choose_source(url, stats_dir, ca_file=ca_file, password_file=password_file)
        ctx.exit(show(source, TopOptions(interval, order, once, as_json), click.echo))
    except KeyboardInterrupt:
        ctx.exit(_INTERRUPTED)
