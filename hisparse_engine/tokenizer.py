"""Text ↔ token ids, by the checkpoint's own ``tokenizer.json``; and text that appears token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from hisparse_engine.errors import CheckpointError

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

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with the special tokens that the release puts around it."""
        return self._backend.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special tokens are left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

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
