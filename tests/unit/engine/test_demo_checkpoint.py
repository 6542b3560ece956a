"""The demo's checkpoint: a real Hugging Face checkpoint, the same bytes every time, whole or not there at all."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from hisparse_engine.demo import texts
from hisparse_engine.demo.checkpoint import default_cache_dir, ensure_demo_checkpoint, is_complete
from hisparse_engine.errors import ConfigError
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.tokenizer import Tokenizer

MAKE_IT = """
import sys
from pathlib import Path
from typing import Any
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
print(ensure_demo_checkpoint(Path(sys.argv[1])))
"""


def start_making(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    return subprocess.Popen(
        [sys.executable, "-c", MAKE_IT, str(cache)], stdout=subprocess.PIPE, text=True, env=environment
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_demo_checkpoint(tmp_path_factory.mktemp("cache"))


def test_it_is_a_checkpoint_of_a_dsa_model_with_shared_layers(made: Path) -> None:
    with Checkpoint.open(made) as checkpoint:
        config = checkpoint.config
        assert config.architecture == "GlmMoeDsaForCausalLM"
        assert {"full", "shared"} == set(config.indexer_types)
        assert {"dense", "sparse"} == set(config.mlp_layer_types)
        assert 64 <= config.index_topk <= 128
        assert config.max_position_embeddings == 32768
    assert 5e6 < (made / "model.safetensors").stat().st_size < 15e6


def test_transformers_loads_it_whole(made: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any
    found: dict[str, Any]
    model, found = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32, output_loading_info=True)
    assert not any(found.values()), found
    tokenizer, ours = AutoTokenizer.from_pretrained(made), Tokenizer.open(made)
    text = "def wörter(x):\n    return '日本'"
    ids = ours.encode(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == ours.decode(ids) == text
    assert ours.vocab_size == model.config.vocab_size
    logits = model(torch.tensor([ids])).logits[0]
    assert logits.std(dim=-1).min() > 1  # distinct enough for greedy tokens to mean something
    assert len(set(logits.argmax(dim=-1).tolist())) > len(ids) // 2


def test_the_model_does_not_end_its_text_by_chance(made: Path) -> None:
    with Checkpoint.open(made) as checkpoint:
        assert checkpoint.config.eos_token_ids == (0,)
        assert not checkpoint.load("lm_head.weight", (4096, 256), torch.float32)[0].any()


def test_the_tokenizer_knows_words(made: Path) -> None:
    tokenizer = Tokenizer.open(made)
    text = texts.corpus()[:20_000]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text) / 3


def test_two_makings_are_identical_and_leave_nothing_behind(made: Path, tmp_path: Path) -> None:
    makers = [start_making(tmp_path / "cache") for _ in range(2)]  # at once, into one folder
    printed = {maker.communicate(timeout=300)[0].strip() for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0]
    (folder,) = map(Path, printed)
    assert folder.name == made.name
    assert contents(folder) == contents(made)
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_it_is_made_once_and_says_how_far_it_is(tmp_path: Path) -> None:
    calls: list[tuple[str, float]] = []
    folder = ensure_demo_checkpoint(tmp_path, lambda what, fraction: calls.append((what, fraction)))
    fractions = [fraction for _, fraction in calls]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    calls.clear()
    assert ensure_demo_checkpoint(tmp_path, lambda what, fraction: calls.append((what, fraction))) == folder
    assert calls == []


@pytest.mark.parametrize("harm", ["missing", "cut", "manifest"])
def test_an_incomplete_one_is_made_again(made: Path, tmp_path: Path, harm: str) -> None:
    folder = ensure_demo_checkpoint(tmp_path)
    weights = folder / "model.safetensors"
    if harm == "missing":
        weights.unlink()
    elif harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        (folder / "manifest.json").write_text("[")
    assert not is_complete(folder)
    assert ensure_demo_checkpoint(tmp_path) == folder
    assert contents(folder) == contents(made)
    assert list(tmp_path.iterdir()) == [folder]


def test_files_are_not_writable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = ensure_demo_checkpoint(tmp_path)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o777 & ~0o644 == 0 for path in folder.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        ensure_demo_checkpoint(tmp_path / "file" / "cache")
    assert str(caught.value).startswith(
        f"{tmp_path / 'file' / 'cache'}: the demo's checkpoint cannot be written (Not a"
    )
    assert "set XDG_CACHE_HOME" in str(caught.value)


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert default_cache_dir() == Path("/some/where/hisparse")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_cache_dir() == tmp_path / ".cache" / "hisparse"


def test_prompts_have_the_length_asked_for_and_differ(made: Path) -> None:
    tokenizer = Tokenizer.open(made)
    found = list(islice(texts.prompts(tokenizer.encode, 3000), 150))  # more than once around the corpus
    assert {len(ids) for ids in found} == {3000}
    assert len({tuple(ids) for ids in found}) == len(found)
    assert tokenizer.decode(found[0]) == texts.corpus()[: len(tokenizer.decode(found[0]))]


def test_a_prompt_may_be_longer_than_the_corpus() -> None:
    assert len(next(texts.prompts(lambda _text: [1, 2, 3], 10))) == 10


def test_a_python_without_prose_gives_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    texts.corpus.cache_clear()
    assert "class ArgumentParser" in texts.corpus()
    monkeypatch.setattr(texts, "MODULES", ())
    texts.corpus.cache_clear()
    with pytest.raises(ConfigError, match="ships too little text"):
        texts.corpus()
    monkeypatch.undo()
    texts.corpus.cache_clear()
