"""A stop string ends the text wherever the pieces are cut, and nothing of it is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_engine.server.stop_strings import StopMatcher

letters = st.text("ab", max_size=12)


def matched(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces) + matcher.flush()
    return shown, matcher.found


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read a character at a time: the first stop string to be complete counts, the longest of several."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            found = max(complete, key=len)
            return text[: end - len(found)], found
    return text, None


@given(
    pieces=st.lists(letters, max_size=8), stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)
)
def test_any_split_into_pieces_gives_the_same_text(pieces: list[str], stops: list[str]) -> None:
    assert matched(pieces, stops) == expected("".join(pieces), stops)


@given(
    pieces=st.lists(letters, max_size=8), stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)
)
def test_what_is_shown_is_never_taken_back(pieces: list[str], stops: list[str]) -> None:
    final, _ = matched(pieces, stops)
    matcher, shown = StopMatcher(stops), ""
    for piece in pieces:
        shown += matcher.push(piece)
        assert final.startswith(shown)


@given(pieces=st.lists(letters, max_size=8), stop=st.text("ab", min_size=1, max_size=5))
def test_no_more_is_withheld_than_may_begin_a_stop_string(pieces: list[str], stop: str) -> None:
    matcher, shown, seen = StopMatcher([stop]), "", ""
    for piece in pieces:
        shown, seen = shown + matcher.push(piece), seen + piece
        if matcher.found is None:
            withheld = seen[len(shown) :]
            assert stop.startswith(withheld)
            assert withheld != stop


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "found"),
    [
        (["He", "llo wo", "rld"], ["o w"], "Hell", "o w"),
        (["abc", "d"], ["bcd", "c"], "ab", "c"),
        (["abcd"], ["bcd", "c"], "ab", "c"),
        (["ab", "a"], ["aba"], "", "aba"),
        (["xab", "ab", "aab"], ["abaa"], "xab", "abaa"),
        (["ab"], ["b", "ab"], "", "ab"),
        (["x\n", "\n", "y"], ["\n\n"], "x", "\n\n"),
        (["a" * 3], ["aaaa"], "aaa", None),
        (["stop here"], [], "stop here", None),
    ],
)
def test_examples(pieces: list[str], stops: list[str], text: str, found: str | None) -> None:
    assert matched(pieces, stops) == (text, found)
