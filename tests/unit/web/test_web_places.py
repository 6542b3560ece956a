from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hisparse_metrics.web.places import Place, Places

Pair = tuple[socket.socket, socket.socket]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(4)]
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
                end.settimeout(2)
        yield pairs


def filled(places: Places, pairs: list[Pair], clock: Clock) -> list[Place]:
    """Take a place for each pair, one a second."""
    taken = []
    for server, _ in pairs:
        place = places.take(server)
        assert place is not None
        taken.append(place)
        clock.now += 1
    return taken


def assert_cut(pair: Pair) -> None:
    assert pair[1].recv(1) == b""


def assert_open(pair: Pair) -> None:
    pair[0].send(b"x")
    assert pair[1].recv(1) == b"x"


def test_the_one_that_has_kept_us_waiting_longest_goes(pairs: list[Pair], clock: Clock) -> None:
    places = Places(3, clock=clock)
    first, *_ = filled(places, pairs[:3], clock)
    places.expect(first)
    assert places.take(pairs[3][0]) is not None
    assert_open(pairs[0])
    assert_cut(pairs[1])
    assert len(places) == 3


def test_who_is_being_answered_stays_and_the_newcomer_goes(pairs: list[Pair], clock: Clock) -> None:
    places = Places(2, clock=clock)
    for place in filled(places, pairs[:2], clock):
        place.hold()
    assert places.take(pairs[2][0]) is None
    assert_open(pairs[0])
    assert_open(pairs[1])


def test_a_reader_has_a_grace(pairs: list[Pair], clock: Clock) -> None:
    places = Places(1, clock=clock)
    [place] = filled(places, pairs[:1], clock)
    places.expect(place, grace=1.0)
    assert places.take(pairs[1][0]) is None
    clock.now += 1
    assert places.take(pairs[1][0]) is not None
    assert_cut(pairs[0])


def test_leaving_frees_a_place_once(pairs: list[Pair], clock: Clock) -> None:
    places = Places(1, clock=clock)
    [place] = filled(places, pairs[:1], clock)
    place.hold()
    places.leave(place)
    places.leave(place)
    assert len(places) == 0
    assert places.take(pairs[1][0]) is not None


def test_a_place_that_was_given_away_does_not_free_the_newcomers(pairs: list[Pair], clock: Clock) -> None:
    places = Places(1, clock=clock)
    [old] = filled(places, pairs[:1], clock)
    new = places.take(pairs[1][0])
    assert new is not None
    new.hold()
    places.leave(old)
    assert len(places) == 1
    assert places.take(pairs[2][0]) is None


def test_cutting_all_that_wait_spares_the_one_being_answered(pairs: list[Pair], clock: Clock) -> None:
    places = Places(3, clock=clock)
    filled(places, pairs[:3], clock)[0].hold()
    places.cut_waiting()
    assert_open(pairs[0])
    assert_cut(pairs[1])
    assert_cut(pairs[2])
