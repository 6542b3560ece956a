"""The demo's checkpoint: made once, in Hugging Face's format, in the user's cache folder.

A folder under its final name is whole: it is filled under another name first and renamed when complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from safetensors.torch import save_file

from hisparse_engine.demo import recipe
from hisparse_engine.demo.texts import corpus
from hisparse_engine.errors import ConfigError

Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and the fraction that is done."""

_FORMAT = 2  # raise when the files change for a reason that the recipe's values do not show
_MANIFEST = "manifest.json"  # file name → bytes


def default_cache_dir() -> Path:
    """Folder for files that can be made again: XDG's cache folder, or ``~/.cache``; then ``hisparse``."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(configured) if configured.startswith("/") else Path.home() / ".cache") / "hisparse"


def ensure_demo_checkpoint(cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the folder of the demo's checkpoint, made first if it is missing or incomplete.

    Several processes may do this at once: the first to finish provides the folder for all.
    ``ConfigError`` when ``cache_dir`` cannot be written.
    """
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    folder = cache_dir / f"demo-{_recipe_hash()}"
    if is_complete(folder):
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=cache_dir) as scratch:
            _make(Path(scratch) / "new", progress or (lambda _what, _fraction: None))
            _put_in_place(Path(scratch), folder)
    except OSError as error:
        raise ConfigError(
            f"{cache_dir}: the demo's checkpoint cannot be written ({error.strerror or error}); "
            "set XDG_CACHE_HOME to a folder with 50 MB of free space"
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Whether every file that was written is still there at its full length."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _recipe_hash() -> str:
    everything = [
        _FORMAT,
        recipe.SEED,
        recipe.COMMON_DIRECTION,
        recipe.CONFIG,
        recipe.GENERATION_CONFIG,
        recipe.TOKENIZER_CONFIG,
        corpus(),
    ]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:12]


def _make(folder: Path, progress: Progress) -> None:
    folder.mkdir(mode=0o755)
    progress("training the tokenizer", 0.0)
    texts = {
        "tokenizer.json": recipe.train_tokenizer(corpus()),
        "config.json": _json(recipe.CONFIG),
        "generation_config.json": _json(recipe.GENERATION_CONFIG),
        "tokenizer_config.json": _json(recipe.TOKENIZER_CONFIG),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    progress("making the weights", 0.5)
    weights = recipe.make_weights()
    progress("writing the weights", 0.8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _seal(folder)
    progress("done", 1.0)


def _seal(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(_json(sizes), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode & 0o644)


def _put_in_place(scratch: Path, folder: Path) -> None:
    """Rename ``scratch/new`` to ``folder``, unless another process was faster; a broken ``folder`` makes way."""
    if is_complete(folder):
        return
    if folder.exists():
        shutil.move(folder, scratch / "broken")
    try:
        (scratch / "new").rename(folder)
    except OSError:
        if not is_complete(folder):  # it appeared in between: fine if whole
            raise


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
