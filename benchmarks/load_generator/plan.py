"""What will be asked: chats with their lengths, documents and pauses, all of it from one seed. Asks nobody.

The same settings and seed give the same chats in the same order for every server, so that runs can be compared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.load_generator.arrivals import poisson
from benchmarks.load_generator.lengths import Conversation, Row
from benchmarks.load_generator.settings import Load


@dataclass(frozen=True)
class Turn:
    """One question: the tokens that it adds, the most that its answer may have, and the pause before it."""

    row: Row
    pause: float


@dataclass(frozen=True)
class Chat:
    """One user's questions. ``seed`` decides their words and the sampling of their answers."""

    number: int
    turns: tuple[Turn, ...]
    document: int | None
    seed: int


def plan_chats(load: Load, conversations: Sequence[Conversation]) -> Iterator[Chat]:
    """Yield chats; as many as have ``num_requests`` questions together, or without end."""
    chance = random.Random(f"chats {load.seed}")
    left, number = load.num_requests, 0
    while left is None or left > 0:
        chat = _draw(number, load, conversations, chance)
        if left is not None:
            chat = replace(chat, turns=chat.turns[:left])
            left -= len(chat.turns)
        yield chat
        number += 1


def plan_arrivals(load: Load) -> Iterator[float]:
    """Yield when chats begin in an open loop; none begins after ``duration``."""
    assert load.rate is not None
    for time in poisson(load.rate, random.Random(f"arrivals {load.seed}"), load.ramp):
        if load.duration is not None and time >= load.duration:
            return
        yield time


def _draw(number: int, load: Load, conversations: Sequence[Conversation], chance: random.Random) -> Chat:
    rows = list(chance.choice(conversations))[: load.turns]
    if rows[0].text is None:  # lengths alone: each turn is drawn
        rows += [chance.choice(conversations)[0] for _ in range(load.turns - 1)]
    document = chance.randrange(load.prefix_documents) if chance.random() < load.prefix_share else None
    pauses = [0.0, *(chance.expovariate(1.0) * load.think for _ in rows[1:])]
    turns = tuple(Turn(row, pause) for row, pause in zip(rows, pauses, strict=True))
    return Chat(number, turns, document, chance.getrandbits(31))
