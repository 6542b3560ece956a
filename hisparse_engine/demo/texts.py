"""Long real text that every Python ships: its language reference as prose, and its library's sources.

The same Python always gives the same text, so what is derived from it (the demo's tokenizer) is reproducible.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path

from hisparse_engine.errors import ConfigError

MODULES = (
    "argparse",
    "typing",
    "asyncio.base_events",
    "subprocess",
    "tarfile",
    "inspect",
    "logging",
    "decimal",
)
_MIN_CHARACTERS = 200_000


@lru_cache(maxsize=1)
def corpus() -> str:
    """Return the text, several hundred thousand characters; ``ConfigError`` on a Python that ships none of it."""
    text = "\n\n".join([*_prose(), *_sources()])
    if len(text) < _MIN_CHARACTERS:
        raise ConfigError(
            f"this Python's standard library ships too little text for the demo (got {len(text)} characters, expected "
            f"{_MIN_CHARACTERS}); use a Python that includes its sources"
        )
    return text


def prompts(encode: Callable[[str], list[int]], num_tokens: int) -> Iterator[list[int]]:
    """Yield prompts of exactly ``num_tokens`` ids without end, each a different stretch of the corpus."""
    ids = encode(corpus())
    stride = num_tokens + 1  # so that a second time round begins elsewhere
    for number in count():
        start = number * stride % len(ids)
        repeats = -(-(start + num_tokens) // len(ids))
        yield (ids * repeats)[start : start + num_tokens]


def _prose() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out; the sources are enough
        return []
    return [topics[name] for name in sorted(topics)]


def _sources() -> Iterator[str]:
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            yield Path(spec.origin).read_text(encoding="utf-8")
