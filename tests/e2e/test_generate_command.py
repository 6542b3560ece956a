"""``hisparse generate`` as a person runs it: JSON on standard output, log lines and mistakes on standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hisparse_engine.cli import main
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_metrics.decode_log import parse
from tests.support.models import write_checkpoint

ROOT = Path(__file__).parents[2]
IDS = ",".join(str(1 + 7 * i % 200) for i in range(90))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), "GlmMoeDsaForCausalLM")


@pytest.fixture(scope="module")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_demo_checkpoint(tmp_path_factory.mktemp("cache"))


def hisparse(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hisparse_engine", "generate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=120)


def generate(*arguments: str | Path, stdin: str = "") -> Any:
    done = hisparse(*arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    return json.loads(line)


def test_both_modes_print_the_same_tokens_and_their_own_counts(model: Path) -> None:
    common = ("--model", model, "--prompt-ids", IDS, "--max-new-tokens", "40", "--ignore-eos")
    split = generate(*common, "--device-buffer-size", "16")
    resident = generate(*common, "--mode", "resident")
    assert split["token_ids"] == resident["token_ids"]
    assert len(split["token_ids"]) == 40
    assert (split["mode"], resident["mode"]) == ("hierarchical", "resident")
    assert split["text"] is None  # no tokenizer.json
    stats = split["stats"]
    assert (stats["device_tokens"], stats["host_tokens"]) == (17, 90 + 40 - 1)
    assert (stats["device_token_usage"], stats["host_token_usage"]) == (1.0, 1.0)
    assert stats["swap_in_hits"] + stats["swap_in_misses"] == stats["swap_in_lookups"] > 0
    assert stats["decode_steps"] == 39
    assert stats["host_to_device_bytes"] > 0
    assert stats["device_to_host_bytes"] > 0
    assert resident["stats"]["host_tokens"] == resident["stats"]["swap_in_lookups"] == 0
    assert resident["stats"]["device_tokens"] == 90 + 40 - 1


def test_several_prompts_make_a_list_in_order(model: Path) -> None:
    batch = generate("--model", model, "--prompt-ids", IDS, "--prompt-ids", "5,6,7", "--max-new-tokens", "8")
    assert [entry["prompt_tokens"] for entry in batch] == [90, 3]
    one = generate("--model", model, "--prompt-ids", "5,6,7", "--max-new-tokens", "8")
    assert one["token_ids"] == batch[1]["token_ids"]


def test_text_prompts_files_and_standard_input(demo_model: Path, tmp_path: Path) -> None:
    text = "The quick brown fox"
    (tmp_path / "prompt.txt").write_text(text)
    common = ("--model", demo_model, "--max-new-tokens", "6")
    answers = [
        generate(*common, "--prompt", text),
        generate(*common, "--prompt-file", tmp_path / "prompt.txt"),
        generate(*common, "--prompt-file", "-", stdin=text),
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["text"]
    plain = hisparse(*common, "--prompt", text)
    assert plain.stdout == answers[0]["text"] + "\n"


def test_a_seed_repeats_a_sample_and_another_seed_does_not(model: Path) -> None:
    common = ("--model", model, "--prompt-ids", IDS, "--max-new-tokens", "20", "--ignore-eos")
    warm = (*common, "--temperature", "1.5", "--top-p", "0.9", "--seed")
    first, again, other = (generate(*warm, seed)["token_ids"] for seed in ("1", "1", "2"))
    assert first == again != other


@pytest.mark.parametrize(("log_format", "is_hisparse"), [("split", True), ("legacy", False), ("json", True)])
def test_log_lines_of_every_format_parse_back(model: Path, log_format: str, is_hisparse: bool) -> None:
    done = hisparse(
        *("--model", model, "--prompt-ids", IDS, "--max-new-tokens", "12", "--ignore-eos"),
        *("--decode-log-interval", "1", "--log-format", log_format),
    )
    records = [record for record in map(parse, done.stderr.splitlines()) if record is not None]
    assert len(records) == 11
    assert all(record.pool.is_hisparse is is_hisparse for record in records)
    assert [r.pool.hisparse_host_tokens for r in records[:3]] == ([91, 92, 93] if is_hisparse else [0] * 3)


def test_resident_mode_prints_the_old_single_figure(model: Path) -> None:
    done = hisparse(
        *("--model", model, "--prompt-ids", IDS, "--max-new-tokens", "4", "--ignore-eos"),
        *("--mode", "resident", "--decode-log-interval", "1"),
    )
    assert ", #token: 91, token usage: 0.98, " in done.stderr
    assert "gpu-token" not in done.stderr


MISTAKES = [
    (["--prompt-ids", "1,x"], "--prompt-ids: expected token ids such as 1,2,3, got '1,x'"),
    (["--prompt-ids", "1", "--prompt", "a"], "exactly one of --prompt, --prompt-file and --prompt-ids"),
    ([], "exactly one of --prompt, --prompt-file and --prompt-ids"),
    (["--prompt", "hello"], "no tokenizer.json"),
    (["--prompt-file", "/nowhere.txt"], "no tokenizer.json"),
    (["--prompt-ids", "1,99999"], "token id 99999 is outside the vocabulary"),
    (["--prompt-ids", "1", "--device-buffer-size", "3"], "smaller than the model's index_topk"),
    (["--prompt-ids", "1", "--host-tokens", "-5"], "hisparse.host_tokens: got -5, expected 1 or more"),
    (["--prompt-ids", IDS, "--host-tokens", "50"], "needs 105 slots of the host pool, which has 50 in all"),
    (
        ["--prompt-ids", IDS, "--device-tokens", "12"],
        "hisparse.device_tokens: got 12, less than one hot buffer",
    ),
    (["--prompt-ids", "1", "--max-new-tokens", "0"], "max_new_tokens: must be at least 1, got 0"),
    (["--prompt-ids", "1", "--top-p", "0"], "top_p: must be in (0, 1], got 0"),
    (["--prompt-ids", "1", "--temperature", "-1"], "temperature: must be 0 (greedy) or more, got -1"),
    (
        ["--prompt-ids", "1", "--decode-log-interval", "0"],
        "engine.decode_log_interval: got 0, expected 1 or more",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1(model: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["generate", "--model", str(model), *arguments])
    assert done.exit_code == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_a_mistake_shows_no_traceback_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = hisparse("--model", tmp_path / "nothing", "--prompt-ids", "1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("Error: ")
    assert "no such folder" in done.stderr


def test_a_device_that_is_not_there_is_named(model: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = hisparse("--model", model, "--prompt-ids", "1", "--device", "cuda")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no CUDA device is visible" in done.stderr
