"""What a person can get wrong: each gets one line that names the input, the reason and the remedy, and no traceback.

Every case runs the real command on a real checkpoint folder, in this process; one of each kind also runs as a process
of its own. Broken folders are copies of a good one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from hisparse_engine.cli import main
from tests.support.models import TINY, TOP_K, VOCABULARY, edit_config, write_checkpoint

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("good"), "DeepseekV32ForCausalLM", num_hidden_layers=2)


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "broken"))


class Ran(NamedTuple):
    """How a command ended, in this process or in its own."""

    code: int
    stdout: str
    stderr: str


def hisparse(*arguments: object) -> Ran:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def hisparse_process(*arguments: object) -> Ran:
    command = [sys.executable, "-m", "hisparse_engine", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return Ran(result.returncode, result.stdout, result.stderr)


def generate(folder: Path, *options: object, ids: str = "1,2,3") -> Ran:
    return hisparse("generate", "--model", folder, "--prompt-ids", ids, "--json", *options)


def assert_refused(result: Ran, message: str) -> None:
    assert result.stderr.splitlines() == [f"Error: {message}"]
    assert result.code == 1
    assert result.stdout == ""


def test_the_good_checkpoint_is_good(checkpoint: Path) -> None:
    result = generate(checkpoint, "--max-new-tokens", 4, "--ignore-eos")
    assert result.code == 0, result.stderr
    assert len(json.loads(result.stdout)["token_ids"]) == 4


# ---- the checkpoint ------------------------------------------------------------------------------------------


def test_no_such_folder(tmp_path: Path) -> None:
    assert_refused(
        generate(tmp_path / "nowhere"),
        f"{tmp_path / 'nowhere'}: no such folder; give the folder that holds config.json and *.safetensors",
    )


def test_unknown_architecture(broken: Path) -> None:
    edit_config(broken, architectures=["LlamaForCausalLM"], model_type="llama")
    assert_refused(
        generate(broken),
        f"{broken / 'config.json'}: key 'architectures': got [\"LlamaForCausalLM\"], expected one of "
        "DeepseekV32ForCausalLM, GlmMoeDsaForCausalLM; use an unmodified DeepSeek-V3.2 or GLM-5 checkpoint, or correct "
        "the key",
    )


def test_truncated_weights(broken: Path) -> None:
    path = broken / WEIGHTS
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 100)
    assert_refused(
        generate(broken),
        f"{path}: got {size - 100} bytes, expected {size} by its header; "
        "the download was cut short or altered: repeat it",
    )


def test_missing_tensor(broken: Path) -> None:
    name = "model.layers.1.self_attn.kv_b_proj.weight"
    tensors = load_file(broken / WEIGHTS)
    del tensors[name]
    save_file(tensors, broken / WEIGHTS, metadata={"format": "pt"})
    assert_refused(
        generate(broken),
        f"{broken / WEIGHTS}: tensor '{name}' is missing; use a complete checkpoint of this architecture",
    )


def test_tensor_of_another_shape(broken: Path) -> None:
    tensors = load_file(broken / WEIGHTS)
    tensors["model.norm.weight"] = torch.ones(63)
    save_file(tensors, broken / WEIGHTS, metadata={"format": "pt"})
    assert_refused(
        generate(broken),
        f"{broken / WEIGHTS}: tensor 'model.norm.weight': got shape [63], expected [64]; "
        "use the config.json and the weights of one release",
    )


def test_config_that_is_not_json(broken: Path) -> None:
    (broken / "config.json").write_text('{"architectures": [')
    assert_refused(
        generate(broken),
        f"{broken / 'config.json'}: not valid JSON (Expecting value: line 1 column 20 (char 19)); "
        "download the file again",
    )


# ---- sizes ---------------------------------------------------------------------------------------------------


def test_buffer_smaller_than_top_k(checkpoint: Path) -> None:
    assert_refused(
        generate(checkpoint, "--device-buffer-size", TOP_K - 1),
        f"hisparse.device_buffer_size: {TOP_K - 1} is smaller than the model's index_topk {TOP_K}, and a step attends that "
        f"many rows at once; set --device-buffer-size to {TOP_K} or more (or leave it out for {2 * TOP_K}) "
        "(--device-buffer-size)",
    )


def test_host_pool_too_small_for_the_prompt(checkpoint: Path) -> None:
    prompt = ",".join("5" * 40)
    assert_refused(
        generate(checkpoint, "--host-tokens", 48, "--max-new-tokens", 10, ids=prompt),
        "the request (prompt 40 + 10 new tokens) needs 49 slots of the host pool, which has 48 in all; "
        "raise --host-tokens, or shorten it",
    )


def test_device_pool_too_small_for_one_buffer(checkpoint: Path) -> None:
    prompt = ",".join("5" * 40)
    result = generate(checkpoint, "--device-buffer-size", TOP_K, "--device-tokens", TOP_K, ids=prompt)
    assert_refused(
        result,
        f"hisparse.device_tokens: got {TOP_K}, less than one hot buffer: device_buffer_size {TOP_K}, and a slot for the "
        f"newest token; set {TOP_K + 1} or more, or a smaller device_buffer_size (--device-tokens)",
    )


def test_resident_device_pool_too_small_for_the_prompt(checkpoint: Path) -> None:
    prompt = ",".join("5" * 40)
    assert_refused(
        generate(checkpoint, "--mode", "resident", "--device-tokens", 54, ids=prompt),
        "the request (prompt 40 + 16 new tokens) needs 55 slots of the device pool, which has 54 in all; "
        "raise --device-tokens, or shorten it",
    )


@pytest.mark.parametrize(
    "option", ["--device-buffer-size", "--device-tokens", "--host-tokens", "--index-tokens"]
)
@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_that_are_not_positive(option: str, size: int, checkpoint: Path) -> None:
    name = option.removeprefix("--").replace("-", "_")
    assert_refused(
        generate(checkpoint, option, size), f"hisparse.{name}: got {size}, expected 1 or more ({option})"
    )


def test_several_wrong_sizes_are_all_named(checkpoint: Path) -> None:
    result = generate(checkpoint, "--device-tokens", -1, "--host-tokens", -2)
    assert result.stderr.splitlines() == [
        "Error: the configuration has 2 problems:",
        "  hisparse.device_tokens: got -1, expected 1 or more (--device-tokens)",
        "  hisparse.host_tokens: got -2, expected 1 or more (--host-tokens)",
    ]
    assert (result.code, result.stdout) == (1, "")


# ---- the request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (f"1,{VOCABULARY}", f"prompt: token id {VOCABULARY} is outside the vocabulary of {VOCABULARY}"),
        ("1,-2", f"prompt: token id -2 is outside the vocabulary of {VOCABULARY}"),
        ("", "--prompt-ids: expected token ids such as 1,2,3, got ''"),
        ("1,two", "--prompt-ids: expected token ids such as 1,2,3, got '1,two'"),
    ],
)
def test_token_ids_that_are_none(ids: str, message: str, checkpoint: Path) -> None:
    assert_refused(generate(checkpoint, ids=ids), message)


def test_no_prompt_at_all(checkpoint: Path) -> None:
    assert_refused(
        hisparse("generate", "--model", checkpoint),
        "give prompts by exactly one of --prompt, --prompt-file and --prompt-ids",
    )


def test_text_for_a_checkpoint_without_a_tokenizer(checkpoint: Path) -> None:
    assert_refused(
        hisparse("generate", "--model", checkpoint, "--prompt", "Once upon a time"),
        f"{checkpoint}: no tokenizer.json, so text cannot be encoded; give token ids with --prompt-ids",
    )


def test_sequence_longer_than_the_model_can_hold(checkpoint: Path) -> None:
    positions = TINY["max_position_embeddings"]
    assert_refused(
        generate(checkpoint, "--max-new-tokens", positions),
        f"prompt: 3 tokens and max_new_tokens {positions} make {positions + 3}, more than the model's {positions} "
        "positions; shorten either",
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--max-new-tokens", 0, "max_new_tokens: must be at least 1, got 0"),
        ("--temperature", -1.0, "temperature: must be 0 (greedy) or more, got -1.0"),
        ("--top-p", 0.0, "top_p: must be in (0, 1], got 0.0"),
        ("--seed", -1, "seed: must be in [0, 2^63), got -1"),
    ],
)
def test_sampling_parameters_out_of_range(option: str, value: float, message: str, checkpoint: Path) -> None:
    assert_refused(generate(checkpoint, option, value), message)


def test_one_bad_prompt_refuses_the_batch(checkpoint: Path) -> None:
    assert_refused(
        generate(checkpoint, "--prompt-ids", f"{VOCABULARY + 1}"),
        f"prompt: token id {VOCABULARY + 1} is outside the vocabulary of {VOCABULARY}",
    )


# ---- as a process --------------------------------------------------------------------------------------------


def test_a_refused_checkpoint_ends_the_process_with_one_line(broken: Path) -> None:
    (broken / WEIGHTS).unlink()
    assert_refused(
        hisparse_process("generate", "--model", broken, "--prompt-ids", "1"),
        f"{broken}: found neither model.safetensors nor model.safetensors.index.json; give a folder with safetensors "
        "weights (pickled *.bin weights are not read: convert them with save_pretrained)",
    )


def test_a_refused_setting_ends_the_process_with_one_line(checkpoint: Path) -> None:
    assert_refused(
        hisparse_process("generate", "--model", checkpoint, "--prompt-ids", "1", "--host-tokens", -4),
        "hisparse.host_tokens: got -4, expected 1 or more (--host-tokens)",
    )


def test_a_refused_request_ends_the_process_with_one_line(checkpoint: Path) -> None:
    assert_refused(
        hisparse_process("generate", "--model", checkpoint, "--prompt-ids", "999"),
        f"prompt: token id 999 is outside the vocabulary of {VOCABULARY}",
    )


def test_an_unknown_choice_is_refused_like_every_wrong_setting(checkpoint: Path) -> None:
    assert_refused(
        generate(checkpoint, "--mode", "fast"),
        "engine.mode: got 'fast', expected 'hierarchical' or 'resident' (--mode)",
    )
