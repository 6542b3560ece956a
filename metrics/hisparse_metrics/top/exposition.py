"""A Prometheus text exposition as samples of ranks: ours, the sidecar's, or vLLM's own.

Only the lines that are shown are parsed: of a hundred ranks' exposition that is a small part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from hisparse_metrics import catalogue
from hisparse_metrics.histogram import Histogram
from hisparse_metrics.metric import Kind
from hisparse_metrics.top import vllm
from hisparse_metrics.top.reading import Engine, RankKey, RankSample

_SCALARS = frozenset(
    metric.name
    for metric in catalogue.ALL
    if metric.kind in (Kind.GAUGE, Kind.COUNTER)
    and metric.identity[: len(catalogue.ENGINE_LABELS)] == catalogue.ENGINE_LABELS
    and not metric.labels
)
_BUCKET = f"{catalogue.DECODE_STEP_SECONDS.name}_bucket"
_INFO = catalogue.ENGINE_INFO.name
_STATE = catalogue.SOURCE_STATE.name
_WANTED = _SCALARS | vllm.WANTED | {_BUCKET, _INFO, _STATE}


@dataclass(slots=True)
class _Rank:
    values: dict[str, float] = field(default_factory=dict)
    buckets: list[tuple[float, float]] = field(default_factory=list)
    info: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> tuple[RankSample, ...]:
    """Return the ranks of an exposition, sorted; ``ValueError`` where a line that matters cannot be parsed."""
    ours: defaultdict[RankKey, _Rank] = defaultdict(_Rank)
    theirs: defaultdict[RankKey, dict[str, float]] = defaultdict(dict)
    states: dict[str, str] = {}
    for sample in _samples(text):
        if sample.name.startswith(vllm.PREFIX):
            key = RankKey("vllm", sample.labels.get("model_name", ""), sample.labels.get("engine", ""))
            theirs[key][sample.name] = sample.value
        elif sample.name == _STATE:
            if sample.value == 1:
                states[sample.labels.get("source", "")] = sample.labels.get("state", "")
        else:
            _add(ours[_key(sample)], sample)
    ranks = [_of_ours(key, rank, states) for key, rank in ours.items()]
    ranks += [
        RankSample(key, Engine.VLLM, vllm.normalised(values))
        for key, values in theirs.items()
        if vllm.has_hisparse(values)
    ]
    return tuple(sorted(ranks, key=lambda rank: rank.key.place))


def _samples(text: str) -> Iterator[Sample]:
    """Parse the wanted lines. Their types need not be known: a series' name tells all that matters here."""
    wanted = "".join(f"{line}\n" for line in text.splitlines() if _name(line) in _WANTED)
    for family in text_string_to_metric_families(wanted):
        yield from (sample for sample in family.samples if not math.isnan(sample.value))


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


def _key(sample: Sample) -> RankKey:
    return RankKey(*(sample.labels.get(name, "") for name in RankKey._fields))


def _add(rank: _Rank, sample: Sample) -> None:
    if sample.name == _BUCKET:
        rank.buckets.append((float(sample.labels["le"]), sample.value))
    elif sample.name == _INFO:
        rank.info = {label.name: sample.labels.get(label.name, "") for label in catalogue.INFO_LABELS}
    else:
        rank.values[sample.name] = sample.value


def _of_ours(key: RankKey, rank: _Rank, states: dict[str, str]) -> RankSample:
    engine = Engine.SGLANG if key.source else Engine.HISPARSE
    steps = Histogram.of_samples(rank.buckets)
    return RankSample(key, engine, rank.values, steps, rank.info, states.get(key.source, ""))
