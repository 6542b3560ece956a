"""What a run's records come to: percentiles, throughput, goodput, and what prefix reuse spared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.load_generator.records import Outcome, Record, Sample
from benchmarks.load_generator.settings import Objective

PERCENTILES = (50, 90, 99)
COUNTERS = (
    "retractions", "generation_tokens", "computed_prompt_tokens", "prefix_hit_tokens", "violations",
)  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` percent lie, between two of them where it falls between."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def is_good(record: Record, objective: Objective) -> bool:
    """Whether an answer is complete and came as fast as it should."""
    in_time = record.ttft is not None and record.ttft <= objective.ttft
    return record.outcome is Outcome.OK and in_time and (record.mean_itl or 0.0) <= objective.itl


def summarise(records: Sequence[Record], samples: Sequence[Sample], objective: Objective) -> dict[str, Any]:
    """Return the figures; latencies are those of complete answers, rates are over the whole run."""
    done = [record for record in records if record.outcome is Outcome.OK]
    good = [record for record in done if is_good(record, objective)]
    wall = _wall(records)
    tokens = sum(record.output_tokens for record in done)
    prompt = sum(record.prompt_tokens or 0 for record in done)
    cached = sum(record.cached_tokens or 0 for record in done)
    return {
        "wall_s": wall,
        "outcomes": {outcome: sum(r.outcome is outcome for r in records) for outcome in Outcome},
        "refusals": sum(len(record.refused_at) for record in records),
        "retry_after_s": _spread(r.retry_after for r in records if r.retry_after is not None),
        "messages": dict(Counter(r.message for r in records if r.message).most_common(5)),
        "ttft_s": _spread(record.ttft for record in done if record.ttft is not None),
        "itl_s": _spread(gap for record in done for gap in record.gaps),
        "mean_itl_s": _spread(r.mean_itl for r in done if r.mean_itl is not None),
        "duration_s": _spread(record.duration for record in done),
        "output_tokens": tokens,
        "output_tokens_per_s": _rate(tokens, wall),
        "requests_per_s": _rate(len(done), wall),
        "goodput": {
            "requests": len(good),
            "requests_per_s": _rate(len(good), wall),
            "output_tokens_per_s": _rate(sum(record.output_tokens for record in good), wall),
        },
        "prompt_tokens": {"asked": prompt, "cached": cached, "computed": prompt - cached},
        "server": _deltas(samples),
        "peaks": _peaks(samples),
        "generator_late_s": _spread(record.sent - record.scheduled for record in records),
    }


def _wall(records: Iterable[Record]) -> float:
    records = list(records)
    return max((r.ended for r in records), default=0.0) - min((r.scheduled for r in records), default=0.0)


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    found = list(values)
    if not found:
        return None
    spread = {f"p{share}": percentile(found, share) for share in PERCENTILES}
    return {"mean": sum(found) / len(found), **spread, "max": max(found)}


def _deltas(samples: Sequence[Sample]) -> dict[str, float]:
    """Return by how much the server's own counters rose."""
    found = {}
    for name in COUNTERS:
        values = [value for sample in samples if (value := getattr(sample, name)) is not None]
        if values:
            found[name] = values[-1] - values[0]
    return found


def _peaks(samples: Sequence[Sample]) -> dict[str, float]:
    names = ("device_usage", "host_usage", "running", "waiting")
    values = {name: [v for s in samples if (v := getattr(s, name)) is not None] for name in names}
    return {name: max(found) for name, found in values.items() if found}
