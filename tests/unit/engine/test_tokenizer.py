"""Text ↔ ids, and the incremental text: whole characters only, and nothing lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from hisparse_engine.errors import CheckpointError
from hisparse_engine.tokenizer import Tokenizer

SAMPLE = "Wörter, 日本語のテキスト, 🇩🇪🧑‍🚀 and\n\ttabs — naïve café"


def byte_tokenizer() -> Tokenizer:
    """One token per byte: every character beyond ASCII spans several tokens. Id 256 is special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    return Tokenizer(backend)


def fallback_tokenizer() -> Tokenizer:
    """SentencePiece's way: a word token carries its space, unknown characters fall back to <0x..> bytes."""
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {"▁hello": 256, "▁world": 257}
    backend = Backend(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(backend)


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(i) for i in ids), stream.flush()]


def test_text_survives_a_round_trip() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(tokenizer.encode(SAMPLE)) == SAMPLE
    assert tokenizer.vocab_size == 257


def test_special_tokens_are_no_text() -> None:
    tokenizer = byte_tokenizer()
    ids = [*tokenizer.encode("a"), 256, *tokenizer.encode("b")]
    assert tokenizer.decode(ids) == "ab"
    assert "".join(pieces(tokenizer, ids)) == "ab"


def test_a_stream_shows_each_character_when_its_last_byte_arrives() -> None:
    tokenizer = byte_tokenizer()
    assert pieces(tokenizer, tokenizer.encode("é日🧑a")) == ["", "é", "", "", "日", "", "", "", "🧑", "a", ""]


def test_a_stream_holds_an_unfinished_character_until_flushed() -> None:
    tokenizer = byte_tokenizer()
    assert pieces(tokenizer, tokenizer.encode("a日")[:-1]) == ["a", "", "", "\ufffd"]


def test_a_stream_goes_on_after_bytes_that_never_become_a_character() -> None:
    tokenizer = byte_tokenizer()
    broken = tokenizer.encode("日")[:2] + tokenizer.encode("ok")
    assert pieces(tokenizer, broken) == ["", "", "\ufffdo", "k", ""]


@given(st.text(max_size=40))
def test_a_stream_of_real_text_never_shows_a_replacement(text: str) -> None:
    tokenizer = byte_tokenizer()
    text = text.replace("\ufffd", "")
    shown = pieces(tokenizer, tokenizer.encode(text))
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


@given(st.lists(st.integers(0, 256), max_size=60))
def test_pieces_add_up_to_the_whole_for_any_ids(ids: list[int]) -> None:
    tokenizer = byte_tokenizer()
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_spaces_between_words_survive_a_decoder_that_strips_the_first() -> None:
    tokenizer = fallback_tokenizer()
    ids = [256, 257, 0xE6, 0x97, 0xA5, 257]
    assert pieces(tokenizer, ids) == ["hello", " world", "", "", "日", " world", ""]
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_the_stream_forgets_what_it_has_shown() -> None:
    tokenizer, chooser = byte_tokenizer(), random.Random(0)
    stream = tokenizer.stream()
    for _ in range(500):
        stream.push(chooser.randrange(0x21, 0x5F))
    assert len(stream._ids) <= 2


def test_a_checkpoint_without_tokenizer(tmp_path: Path) -> None:
    assert not Tokenizer.is_in(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.open(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'tokenizer.json'}: no such file, so text cannot be turned into"
    )
    assert "--prompt-ids" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\x00"])
def test_a_damaged_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    assert Tokenizer.is_in(tmp_path)
    with pytest.raises(CheckpointError, match=r"cannot be read as a tokenizer .*; download it again"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("text", [SAMPLE, "", "a b", "\x00\x7f"])
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_a_token_s_bytes_in_a_vocabulary_that_falls_back_to_bytes() -> None:
    tokenizer = fallback_tokenizer()
    assert [tokenizer.token_bytes(i) for i in (256, 0x41, 0xE6, 999)] == [b" hello", b"A", b"\xe6", b""]


def test_a_special_token_s_bytes_are_its_name() -> None:
    assert byte_tokenizer().token_bytes(256) == b"<|end|>"


def test_special_tokens_around_a_prompt_can_be_left_out() -> None:
    backend = Backend(models.WordLevel({"a": 0, "[BOS]": 1}, unk_token="a"))
    backend.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    tokenizer = Tokenizer(backend)
    assert (tokenizer.encode("a"), tokenizer.encode("a", special_tokens=False)) == ([1, 0], [0])
