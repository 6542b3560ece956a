"""A snapshot for scripts and files: plain text in the decode log's words, and JSON. Needs no package beside ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hisparse_metrics.top.numbers import UNKNOWN, ahead, bandwidth, duration, full, percent, small, throughput
from hisparse_metrics.top.order import Order, arranged
from hisparse_metrics.top.view import RankView, Snapshot, Totals

_NOT_IN_JSON = ("curve", "key", "host_growth")


def as_text(snapshot: Snapshot, order: Order = Order.FULL) -> str:
    """Return the snapshot as text, one block a rank; a figure that is not known is left out."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time))
    lines = [f"hisparse top  {snapshot.about}  {when}"]
    lines += [message for message in (snapshot.trouble, snapshot.note) if message]
    if len(snapshot.ranks) > 1:
        states = ", ".join(f"{n} {state}" for state, n in snapshot.totals.states)
        lines += ["", f"all {len(snapshot.ranks)} ranks: {states}", *_figures(snapshot.totals)]
    for rank in arranged(snapshot.ranks, order):
        lines += ["", f"{rank.name}: {rank.state}", *_figures(rank), *_more(rank)]
    return "\n".join(lines) + "\n"


def as_json(snapshot: Snapshot, order: Order = Order.FULL) -> str:
    """Return the snapshot as one JSON object; a figure that is not known is ``null``."""
    totals = asdict(snapshot.totals)
    totals["states"] = {state.value: n for state, n in snapshot.totals.states}
    ranks = [_object(rank) for rank in arranged(snapshot.ranks, order)]
    return json.dumps({
        "source": snapshot.about,
        "time": snapshot.time,
        "note": snapshot.note,
        "totals": totals,
        "ranks": ranks,
    })  # fmt: skip


def _object(rank: RankView) -> dict[str, Any]:
    figures = {name: getattr(rank, name) for name in RankView.__slots__ if name not in _NOT_IN_JSON}
    return rank.key._asdict() | figures | {"seconds_to_full": rank.seconds_to_full}


def _figures(of: RankView | Totals) -> Iterator[str]:
    yield from _line(
        ("#running-req", full(of.running)),
        ("#staging-req", full(of.staging)),
        ("#queue-req", full(of.waiting)),
    )
    yield from _line(
        ("#gpu-token", _of(of.device_tokens, of.device_capacity)),
        ("gpu token usage", _ratio(of.device_usage)),
        ("spare", full(of.device_spare)),
    )
    yield from _line(
        ("#cpu-token", _of(of.host_tokens, of.host_capacity)), ("cpu token usage", _ratio(of.host_usage)),
        ("reserved", full(of.host_reserved)), ("full in", ahead(of.seconds_to_full)),
    )  # fmt: skip
    yield from _line(
        ("gen throughput (token/s)", throughput(of.tokens_per_second)), ("hit ratio", percent(of.hit_ratio, 1)),
        ("to gpu", bandwidth(of.host_to_device)), ("to cpu", bandwidth(of.device_to_host)),
    )  # fmt: skip


def _more(rank: RankView) -> Iterator[str]:
    ago = UNKNOWN if rank.since_step is None else f"{duration(rank.since_step)} ago"
    yield from _line(
        ("step p50", small(rank.step_p50)), ("p99", small(rank.step_p99)), ("last step", ago),
        ("retractions", full(rank.retractions)), ("verify mismatches", full(rank.mismatches)),
        ("invariant violations", full(rank.violations)),
    )  # fmt: skip
    if rank.about:
        yield f"  {rank.about}"


def _line(*facts: tuple[str, str]) -> Iterator[str]:
    known = [f"{label}: {figure}" for label, figure in facts if figure != UNKNOWN]
    if known:
        yield f"  {', '.join(known)}"


def _of(used: float | None, capacity: float | None) -> str:
    return f"{full(used)} of {full(capacity)}" if capacity else full(used)


def _ratio(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"
