"""Short names for ranks: as much as tells them apart on this screen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

from hisparse_metrics.top.reading import RankKey, printable

_PARTS = (("dp", "dp_rank"), ("pp", "pp_rank"), ("tp", "tp_rank"), ("ep", "ep_rank"))


def short_names(keys: Iterable[RankKey]) -> dict[RankKey, str]:
    """Name each rank by its engine, then by whatever differs among that engine's ranks."""
    engines: defaultdict[str, list[RankKey]] = defaultdict(list)
    for key in keys:
        engines[key.engine_name].append(key)
    return {key: _name(key, ranks) for ranks in engines.values() for key in ranks}


def _name(key: RankKey, others: list[RankKey]) -> str:
    parts = [f"{short}{getattr(key, label)}" for short, label in _PARTS if _differs(label, others)]
    if _differs("source", others):
        parts.append(PurePath(key.source).stem or key.source)
    if _differs("model_name", others):
        parts.append(key.model_name)
    return printable(" ".join((key.engine_name or "engine", *filter(None, parts))))


def _differs(label: str, keys: list[RankKey]) -> bool:
    return len({getattr(key, label) for key in keys}) > 1
