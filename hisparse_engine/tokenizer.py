"""Text ↔ token ids, by the checkpoint's own ``tokenizer.json``; and text that appears token by token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import tokenizers

from hisparse_engine.errors import CheckpointError


def _byte_level_alphabet() -> dict[str, bytes]:
    """Return which byte each character of a byte-level vocabulary stands for, in GPT-2's numbering.

    Printable characters of Latin-1 stand for themselves; the other bytes, in order, for those from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): bytes([byte]) for byte in printable} | {
        chr(0x100 + number): bytes([byte]) for number, byte in enumerate(others)
    }


_BYTE_OF = _byte_level_alphabet()
_REPLACEMENT = "\ufffd"  # how a decoder shows bytes that are not (yet) a UTF-8 character


class Tokenizer:
    """A checkpoint's tokenizer. Ids-only use needs none: ask ``is_in`` before ``open``."""

    FILE = "tokenizer.json"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    @classmethod
    def is_in(cls, folder: Path | str) -> bool:
        """Whether ``folder`` holds a tokenizer."""
        return (Path(folder) / cls.FILE).exists()

    @classmethod
    def open(cls, folder: Path | str) -> Tokenizer:
        """Read ``folder``'s ``tokenizer.json``; ``CheckpointError`` when it is missing or unusable."""
        path = Path(folder) / cls.FILE
        if not path.exists():
            raise CheckpointError(
                f"{path}: no such file, so text cannot be turned into tokens; give token ids (--prompt-ids), "
                "or add the tokenizer.json of the model's release"
            )
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for every kind of damage
            raise CheckpointError(
                f"{path}: cannot be read as a tokenizer ({error}); download it again"
            ) from None

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Token ids of a prompt, with the special tokens that the release puts around it unless told otherwise."""
        return self._backend.encode(text, add_special_tokens=special_tokens).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special tokens are left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes that one token stands for, which need not be whole characters; none for an id without a token."""
        token = self._backend.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added:
            return self._added[token_id].encode()
        if self._is_byte_level:
            return bytes(byte for char in token for byte in _BYTE_OF.get(char, char.encode()))
        if byte := re.fullmatch("<0x([0-9A-F]{2})>", token):
            return bytes.fromhex(byte[1])
        return token.replace("\u2581", " ").encode()

    @cached_property
    def _added(self) -> dict[int, str]:
        return {id_: token.content for id_, token in self._backend.get_added_tokens_decoder().items()}

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = self._backend.decoder
        return decoder is not None and b"ByteLevel" in decoder.__getstate__()

    def stream(self) -> TextStream:
        """Start the text of one request."""
        return TextStream(self)


class TextStream:
    """Turns one request's tokens into text as they come; the pieces add up to ``decode`` of them all.

    A token may end inside a UTF-8 character: what is not yet a character is held back until it is one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # The last piece's ids are kept before the pending ones: some decoders treat the first token differently.
        self._ids: list[int] = []
        self._num_kept = 0
        self._num_shown = 0  # characters of decode(_ids) that are out already

    def push(self, token_id: int) -> str:
        """Take one token; return the text that is now certain, often a word, sometimes nothing."""
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        certain = text.rstrip(_REPLACEMENT)
        piece = certain[self._num_shown :]
        self._num_shown += len(piece)
        if piece and certain == text:
            self._forget()
        return piece

    def flush(self) -> str:
        """End the text: return what was held back, replacement characters for bytes that never became one."""
        piece = self._tokenizer.decode(self._ids)[self._num_shown :]
        self._num_shown += len(piece)
        return piece

    def _forget(self) -> None:
        """Drop the ids before the piece that just came out."""
        self._ids = self._ids[self._num_kept :]
        self._num_kept = len(self._ids)
        self._num_shown = len(self._tokenizer.decode(self._ids))
