"""A locality model: which positions each request selects at each step, with the miss rate as a knob.

Trained indexers select much the same rows from one step to the next. Random weights do not, so a benchmark that wants a
given miss rate has to say itself what is selected. The model, for one request and index group:

- the newest ``window`` positions are always selected;
- what was there at admission is cut into ``top_k - window`` *strata*, stretches of equal length, and one position of
  each is selected: positions are distinct and ascend, and nothing has to be sorted;
- a stratum keeps its position for a while and then draws again, at random moments, ``turnover`` of all strata a step on
  average, some up to 16 times as often as others;
- it draws old favourites more often than the rest: the popularity of its positions is a power law, so that the time
  until a position is selected again has a heavy tail.

Every selection is a pure function of (seed, request, group, tokens since admission): no state, the same on every device,
elementwise tensor operations without a synchronisation, so that it may be captured in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hisparse_engine.ops.tables import NONE

MAX_STEPS = 20_000
"""Beyond this the fixed-point clock of a fast stratum would leave int32."""
_ONE = 1 << 16  # the clock's fixed point
_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # how often strata draw, relative to one another
_MEAN_RATE = sum(_RATES) / len(_RATES)
_SCATTER = (
    40_009  # a prime above any stratum's length: popularity and place in the stratum have nothing to do
)


@dataclass(frozen=True)
class Locality:
    """The knobs. ``turnover``: share of strata that draw again each step; ``skew`` 1 draws evenly, more favours favourites.

    Beyond a turnover of 0.39 the fast strata draw at every step, and the share grows more slowly than the knob.
    """

    top_k: int = 2048
    window: int = 64
    turnover: float = 0.05
    skew: int = 6
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what the fixed-point clock or the strata cannot express."""
        if not 0 <= self.window < self.top_k:
            raise ValueError(f"window: expected 0 … top_k - 1 = {self.top_k - 1}, got {self.window}")
        if not 0.0 <= self.turnover <= 1.0:
            raise ValueError(f"turnover: expected a share from 0 to 1, got {self.turnover}")
        if self.skew < 1:
            raise ValueError(f"skew: expected a whole number from 1, got {self.skew}")

    @property
    def rates(self) -> tuple[int, ...]:
        """How far the clock of each kind of stratum goes in a step, in fixed point."""
        return tuple(round(rate * self.turnover / _MEAN_RATE * _ONE) for rate in _RATES)

    def positions(
        self,
        requests: torch.Tensor,
        admitted: torch.Tensor,
        lengths: torch.Tensor,
        num_groups: int,
        past: int = 0,
    ) -> torch.Tensor:
        """Return int32 ``[groups, batch, top_k]``: distinct positions below ``lengths``, ascending, then NONE.

        ``requests`` (any number that names one), ``admitted`` (length at admission) and ``lengths`` are int32
        ``[batch]``. A request of at most ``top_k`` positions selects all; a length of 0 none. ``past`` steps ago the
        strata had drawn fewer times: what was selected then, were the window where it is now.
        """
        device, strata = lengths.device, self.top_k - self.window
        group = torch.arange(num_groups, dtype=torch.int32, device=device).view(-1, 1, 1)
        stratum = torch.arange(strata, dtype=torch.int32, device=device)
        name = _mixed(stratum + _mixed(group * 0x3C6F + requests.view(1, -1, 1) * 0x61C9 + self.seed))
        older = (admitted - self.window).clamp(min=0).view(1, -1, 1)
        first = _share(stratum, older, strata)
        size = (_share(stratum + 1, older, strata) - first).clamp(min=1)
        epoch = self._epoch(name, (lengths - admitted - past).view(1, -1, 1))
        picked = first + self._draw(name, epoch, size)
        newest = torch.arange(self.window, dtype=torch.int32, device=device) - self.window
        tail = (lengths.view(1, -1, 1) + newest).expand(num_groups, -1, -1)
        everything = torch.arange(self.top_k, dtype=torch.int32, device=device)
        short = torch.where(everything < lengths.view(1, -1, 1), everything, NONE)
        is_long = ((admitted > self.top_k) & (lengths > self.top_k)).view(1, -1, 1)
        return torch.where(is_long, torch.cat((picked, tail), dim=-1), short).to(torch.int32)

    def _epoch(self, name: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return how often each stratum has drawn: its clock's blocks, and in each a moment of its own."""
        clock = _low_bits(_mixed(name ^ 0x1B87))
        for kind, rate in enumerate(self.rates):  # no gather: five constants
            clock = clock + torch.where((name >> 3) % len(_RATES) == kind, step * rate, 0)
        block = clock >> 16
        moment = _low_bits(_mixed(name ^ (block * 0x2C1B)))
        return block + (_low_bits(clock) >= moment)

    def _draw(self, name: torch.Tensor, epoch: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        """Return each stratum's offset below ``size``."""
        chance = (_mixed(name ^ (epoch * 0x5A35)) & 0xFFFFFF).float() * 2.0**-24
        power = chance
        for _ in range(self.skew - 1):  # not pow(): its last bit is not the same everywhere
            power = power * chance
        rank = (power * size).to(torch.int32)
        return ((name & 0xFFFF) + rank * _SCATTER) % size


def _share(part: torch.Tensor, whole: torch.Tensor, parts: int) -> torch.Tensor:
    """Return ``part / parts`` of ``whole``, rounded down, in int32: exact below 2^31."""
    quotient, rest = whole // parts, whole % parts
    return quotient * part + rest * part // parts


def _low_bits(x: torch.Tensor) -> torch.Tensor:
    return x & (_ONE - 1)


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """Return a hash ≥ 0 of int32 ``x``: multiply and fold, twice; int32 arithmetic wraps."""
    x = (x ^ (x >> 15)) * 0x2C1B3C6D
    x = (x ^ (x >> 12)) * 0x297A2D39
    return (x ^ (x >> 15)) & 0x7FFFFFFF
