"""Which rank wrote a record: the key under which its numbers are kept, and the labels that they carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from hisparse_metrics.sglang import Value

ALWAYS = ("dp_rank", "pp_rank", "tp_rank", "ep_rank")
"""Labels of every series, 0 where the prefix does not say: a prefix names only what has more than one rank."""

_SUFFIX = "_rank"
_RAY = ("ray_pid", "ray_ip")


class RankKey(NamedTuple):
    """One rank of one writer. Two records overwrite each other exactly when their keys are equal.

    ``others`` are ranks that our own engine does not have (``attn_cp_rank``, ``moe_dp_rank``, ...) by name.
    """

    ranks: tuple[int, int, int, int] = (0, 0, 0, 0)
    others: tuple[tuple[str, int], ...] = ()
    origin: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Value], origin: str = "") -> RankKey:
        """Read the key off a record's or an event's values."""
        dp, pp, tp, ep = (_rank(values.get(name)) for name in ALWAYS)
        names, _ = reader(tuple(values))
        others = sorted(name for name in names if name.endswith(_SUFFIX) and name not in ALWAYS)
        if "ray_pid" in values and not origin:
            origin = f"ray/{values.get('ray_ip', '')}/{values['ray_pid']}"
        return cls((dp, pp, tp, ep), tuple((name, _rank(values[name])) for name in others), origin)

    def labels(self) -> dict[str, str]:
        """Return the labels that tell this rank from the others of its log."""
        labels = dict(zip(ALWAYS, map(str, self.ranks), strict=True))
        labels |= {name: str(rank) for name, rank in self.others}
        return labels | ({"origin": self.origin} if self.origin else {})

    def to_json(self) -> list[object]:
        """Return what :meth:`from_json` takes."""
        return [list(self.ranks), [list(other) for other in self.others], self.origin]

    @classmethod
    def from_json(cls, data: object) -> RankKey:
        """Read a remembered key; ``ValueError`` or ``TypeError`` when it is none."""
        if not isinstance(data, list):
            raise TypeError(f"not a rank: {data!r}")
        (dp, pp, tp, ep), others, origin = data
        return cls(
            (int(dp), int(pp), int(tp), int(ep)),
            tuple((str(name), int(rank)) for name, rank in others),
            str(origin),
        )


class Signature(NamedTuple):
    """What a key depends on: equal signatures have equal keys, and are much quicker to make."""

    names: tuple[str, ...]
    values: object
    origin: str


def signature(values: Mapping[str, Value], origin: str) -> Signature:
    """Return the signature of a record's or an event's writer."""
    names, read = reader(tuple(values))
    return Signature(names, read(values), origin)


@lru_cache(maxsize=256)
def reader(names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Mapping[str, Value]], object]]:
    """Return which of ``names`` tell the writer, and how to get their values; one engine has few sets of names."""
    telling = tuple(name for name in names if name.endswith(_SUFFIX) or name in _RAY)
    return telling, itemgetter(*telling) if telling else _nothing


def _nothing(_: Mapping[str, Value]) -> object:
    return ()


def _rank(value: object) -> int:
    return value if isinstance(value, int) else 0
