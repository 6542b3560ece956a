"""When chats begin, in an open loop: a Poisson process whose rate may rise at first. Knows no clock."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator


def poisson(rate: float, chance: random.Random, ramp: float = 0.0) -> Iterator[float]:
    """Yield the seconds of arrivals without end: ``rate`` a second, rising from 0 in a straight line over ``ramp``.

    A process of rate 1 runs on the expected number of arrivals; :func:`moment` turns that into time. This is exact,
    whatever the shape of the rate.
    """
    expected = 0.0
    while True:
        expected += chance.expovariate(1.0)
        yield moment(expected, rate, ramp)


def moment(expected: float, rate: float, ramp: float) -> float:
    """Return when ``expected`` arrivals are to be expected: rate · t² / (2 · ramp) of them by t within the ramp."""
    if expected < rate * ramp / 2:
        return math.sqrt(2 * ramp * expected / rate)
    return expected / rate + ramp / 2
