"""Tokens become text: incomplete characters wait, end tokens are silent, stop strings cut, token facts follow the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_engine.server.choice import Choice, Logprobs, Piece
from hisparse_engine.tokenizer import Tokenizer
from tests.support.chat_checkpoint import byte_tokenizer

TOKENIZER = Tokenizer(byte_tokenizer())
TEXT = "the größe of 漢字 in the pool 🙂 and the row"


def facts(tokens: list[int]) -> list[Logprobs]:
    return [(-float(token), [token], [-float(token)]) for token in tokens]


def feed(choice: Choice, tokens: list[int], sizes: list[int], outcome: str = "length") -> list[Piece]:
    """Push ``tokens`` in steps of ``sizes``, the last of them with ``outcome``; stop where the choice does."""
    steps, rest = [], tokens
    for size in sizes:
        steps.append(rest[:size])
        rest = rest[size:]
    pieces = []
    for step, last in [*((step, None) for step in steps), (rest, outcome)]:
        if not choice.finished:
            pieces.append(choice.push(step, facts(step), last))
    return pieces


@given(
    sizes=st.lists(st.integers(0, 3), max_size=40),
    stop=st.sampled_from(["", "in the", "röß", "字 i", "zzz", "w"]),
)
def test_any_split_into_steps_gives_the_same(sizes: list[int], stop: str) -> None:
    tokens = TOKENIZER.encode(TEXT)
    choice = Choice(TOKENIZER, [stop] if stop else [])
    pieces = feed(choice, tokens, sizes)
    text = "".join(piece.text for piece in pieces)
    cut = TEXT.find(stop) if stop else -1
    assert text == (TEXT if cut < 0 else TEXT[:cut])
    assert choice.finished
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [
        "length" if cut < 0 else "stop"
    ]


@given(sizes=st.lists(st.integers(0, 3), max_size=40), stop=st.sampled_from(["", "in the", "字 i"]))
def test_the_shown_tokens_are_those_of_the_shown_text(sizes: list[int], stop: str) -> None:
    tokens = TOKENIZER.encode(TEXT)
    pieces = feed(Choice(TOKENIZER, [stop] if stop else []), tokens, sizes)
    text = "".join(piece.text for piece in pieces)
    shown = [token for piece in pieces for token in piece.tokens]
    assert [token.id for token in shown] == tokens[: len(shown)]
    assert [token.offset for token in shown] == sorted(token.offset for token in shown)
    assert all(token.offset <= len(text) for token in shown)
    assert [token.logprobs for token in shown] == facts(tokens[: len(shown)])
    if not stop:
        assert len(shown) == len(tokens)


def test_half_a_character_waits_for_its_other_half() -> None:
    tokens = TOKENIZER.encode("ж")
    assert len(tokens) == 2
    choice = Choice(TOKENIZER)
    assert choice.push(tokens[:1], []).text == ""
    assert choice.push(tokens[1:], []).text == "ж"


def test_half_a_character_at_the_end_is_shown_as_damaged() -> None:
    choice = Choice(TOKENIZER)
    assert choice.push(TOKENIZER.encode("ж")[:1], [], "length").text == "\ufffd"


def test_an_end_token_is_counted_and_not_shown() -> None:
    choice = Choice(TOKENIZER)
    word, end = TOKENIZER.encode(" the")[0], TOKENIZER.encode(".")[0]
    piece = choice.push([word, end], facts([word, end]), "stop")
    assert (piece.text, [token.id for token in piece.tokens], piece.finish_reason) == (" the", [word], "stop")
    assert choice.num_tokens == 2


def test_tokens_after_a_stop_string_are_neither_shown_nor_counted() -> None:
    tokens = TOKENIZER.encode("a.bcd")
    choice = Choice(TOKENIZER, ["b"])
    piece = choice.push(tokens, facts(tokens))
    assert (piece.text, piece.finish_reason, choice.num_tokens) == ("a.", "stop", 3)


def test_a_stop_string_in_the_last_flush_counts() -> None:
    choice = Choice(TOKENIZER, ["\ufffd"])
    piece = choice.push(TOKENIZER.encode("aж")[:2], [], "length")
    assert (piece.text, piece.finish_reason) == ("a", "stop")


@pytest.mark.parametrize("outcome", ["stop", "length"])
def test_without_a_tokenizer_there_are_tokens_and_no_text(outcome: str) -> None:
    piece = Choice(None).push([5, 6], facts([5, 6]), outcome)
    assert piece.text == ""
    assert [token.id for token in piece.tokens] == ([5, 6] if outcome == "length" else [5])
