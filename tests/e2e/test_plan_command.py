"""``hisparse plan``: what fits is said in tables, JSON and a picture; what does not is said with what would."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hisparse_engine.cli import main
from hisparse_engine.memory_plan import GIB
from tests.e2e.test_config_command import without
from tests.support.models import write_checkpoint

DATA = Path(__file__).parents[1] / "data"
V32, GLM5 = DATA / "deepseek_v32", DATA / "glm5"
RANK = ("--gpu-memory-gib", 139, "--host-memory-gib", 1024, "--weights-gib", 80)
"""An H200 and a share of the host, with an eighth of fp8 weights."""


def plan(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(main, ["plan", *map(str, arguments)])


def as_json(*arguments: object) -> dict[str, Any]:
    done = plan("--json", *arguments)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("checkpoint"), "GlmMoeDsaForCausalLM", max_position_embeddings=8192
    )


def test_it_shows_every_part_both_modes_and_a_curve() -> None:
    done = plan("--model", V32, *RANK, "--context", 131072)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "DeepseekV32ForCausalLM: 61 layers, 61 index groups, rows of 576 and index keys of 128"
    )
    assert lines[1] == "weights: 80.000 GiB by --weights-gib"
    names = [re.split(r"\s{2,}", line.strip())[0] for line in lines]
    for name in ("weights", "KV cache", "hot buffers", "index keys", "residency by slot", "residency by token", "step",
                 "index scores", "prompt rows of two layers", "new rows on their way home", "swap plans",
                 "results of CUDA graphs", "reserve for CUDA", "device memory", "host pool"):  # fmt: skip
        assert name in names
    (hierarchical,) = (line for line in lines if line.startswith("  hierarchical "))
    (resident,) = (line for line in lines if line.startswith("  resident "))
    assert re.search(r"25   bounded by device memory; 5\.0 × resident mode's$", hierarchical)
    assert re.search(r"5   bounded by device memory$", resident)
    curve = [line for line in lines if re.match(r" +[\d,]+  hierarchical ", line)]
    assert [line.split()[0] for line in curve] == [
        "4,096", "8,192", "16,384", "32,768", "65,536", "131,072", "163,840",
    ]  # fmt: skip


def test_the_example_in_the_documentation_is_what_it_prints() -> None:
    text = (DATA.parents[1] / "docs/plan.md").read_text()
    shown = text.split("```text\n$ hisparse plan ")[1].split("```")[0].splitlines()
    arguments = shlex.split(shown[0].replace("DeepSeek-V3.2", str(V32)).removesuffix("--png plan.png"))
    printed = plan(*arguments).stdout.replace(str(V32), "DeepSeek-V3.2")
    assert [line.rstrip() for line in printed.splitlines()] == shown[1:]
    found = as_json(*arguments, "--index-key-dtype", "float8")
    requests, resident = found["hierarchical"]["requests"], found["resident"]["requests"]
    assert f"it is {requests} requests, {requests / resident:.1f} times resident mode's" in text


def test_the_json_says_the_same_and_adds_up() -> None:
    report = as_json("--model", GLM5, *RANK)
    assert (report["context"], report["dtype"]) == (131072, "bfloat16")
    for mode in ("hierarchical", "resident"):
        found = report[mode]
        on_device = [part["bytes"] for part in found["parts"] if part["tier"] == "device"]
        assert sum(on_device) == found["device_bytes"] <= 139 * GIB
        assert found["host_bytes"] <= 1024 * GIB
        assert found["requests"] == next(p[mode] for p in report["curve"] if p["context"] == 131072)
    hot = report["hierarchical"]["requests"] * 4097
    assert report["hierarchical"]["device_tokens"] >= hot
    assert 139 * GIB - report["hierarchical"]["device_bytes"] < 100_000  # less than one more token
    assert report["curve"][-1]["context"] == 202752


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--index-key-dtype", "float8", "--prefill-chunk-size", 256),
        ("--kv-cache-dtype", "float8", "--dtype", "auto"),
    ],
)
def test_the_command_that_it_prints_is_a_configuration_with_the_same_pools(more: tuple[object, ...]) -> None:
    done, report = plan("--model", V32, *RANK, *more), as_json("--model", V32, *RANK, *more)
    printed = shlex.split(done.stdout.splitlines()[-1])
    assert printed == ["hisparse", "serve", *report["serve"]]
    checked = CliRunner().invoke(main, ["config", "check", "--json", "--context", "131072", *printed[2:]])
    assert checked.exit_code == 0, checked.output
    memory = json.loads(checked.stdout)["memory"]
    planned = report["hierarchical"]
    for name in ("device_tokens", "host_tokens", "index_tokens", "device_buffer_size"):
        assert memory[name] == planned[name]
    both = {part["name"]: part["bytes"] for part in planned["parts"] if part["name"] != "weights"}
    assert {
        p["name"]: p["bytes"] for p in memory["parts"] + memory["beside"] if p["name"] != "weights"
    } == both
    (row,) = json.loads(checked.stdout)["concurrency"]
    assert row["requests"] == planned["requests"]


def test_weights_come_from_the_headers_where_there_are_some(checkpoint: Path) -> None:
    arguments = ("--model", checkpoint, "--gpu-memory-gib", 2, "--host-memory-gib", 0.01)
    report = as_json(*arguments)
    assert report["weights"]["source"] == "safetensors headers"
    assert report["weights"]["bytes"] == sum(report["weights"]["by_kind"].values())
    assert report["context"] == 8192
    assert report["hierarchical"]["bounded_by"] == "host memory"
    capped = as_json(*arguments, "--max-running-requests", 1, "--context", 512)
    assert (capped["hierarchical"]["requests"], capped["hierarchical"]["bounded_by"]) == (
        1,
        "max_running_requests",
    )


def test_rows_in_float8_are_in_the_report_and_hold_more_requests() -> None:
    done, report = (
        plan("--model", V32, *RANK, "--kv-cache-dtype", "float8"),
        as_json("--model", V32, *RANK, "--kv-cache-dtype", "float8"),
    )
    assert done.stdout.splitlines()[0].endswith("163,840 positions, bfloat16, KV rows in float8")
    assert "--dtype bfloat16" in done.stdout.splitlines()[-1]
    assert "--kv-cache-dtype float8" in done.stdout.splitlines()[-1]
    assert report["kv_cache_dtype"] == "float8"
    plain = as_json("--model", V32, *RANK)
    assert plain["kv_cache_dtype"] == "auto"
    assert report["resident"]["requests"] > 1.4 * plain["resident"]["requests"]
    host = {part["name"]: part for part in report["hierarchical"]["parts"]}["host pool"]
    assert host["token_bytes"] == 61 * 656


def test_resident_mode_has_a_table_of_its_own() -> None:
    done = plan("--model", V32, *RANK, "--mode", "resident")
    assert done.exit_code == 0
    assert "KV rows" in done.stdout
    assert "hot buffers" not in done.stdout
    assert "--mode resident" in done.stdout.splitlines()[-1]
    assert "--host-tokens" not in done.stdout.splitlines()[-1]


def test_settings_come_from_a_file_and_the_environment_too(tmp_path: Path) -> None:
    file = tmp_path / "hisparse.yaml"
    file.write_text(
        f"model: {V32}\nhisparse: {{host_memory_gib: 1024}}\nengine: {{threads: 3, dtype: float32}}\n"
    )
    found = as_json("--config", file, "--gpu-memory-gib", 139, "--weights-gib", 1)
    assert found["dtype"] == "float32"
    done = plan(
        "--json", "--config", file, "--gpu-memory-gib", 139, "--weights-gib", 1, HISPARSE_DTYPE="bfloat16"
    )
    assert json.loads(done.stdout)["dtype"] == "bfloat16"


# ---- what does not fit ---------------------------------------------------------------------------------------


def refused(*arguments: object) -> str:
    done = plan(*arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    return done.stderr.strip()


def test_weights_that_do_not_fit_say_so_and_what_would() -> None:
    message = refused("--model", V32, "--gpu-memory-gib", 139, "--host-memory-gib", 1024)
    assert "got 139, and the weights alone take 1251.48 GiB in bfloat16 (by shapes in config.json)" in message
    assert "give its size by --weights-gib" in message
    enough = re.search(r"; ([\d.]+) would hold them and one request of 131,072 tokens", message)
    assert enough
    report = as_json("--model", V32, "--gpu-memory-gib", enough[1], "--host-memory-gib", 1024)
    assert report["hierarchical"]["requests"] == 1


@pytest.mark.parametrize(
    ("gpu", "host", "flag"), [(83, 1024, "--gpu-memory-gib"), (139, 5, "--host-memory-gib")]
)
def test_a_budget_that_is_too_small_says_what_would_do(gpu: int, host: int, flag: str) -> None:
    given = {"--gpu-memory-gib": gpu, "--host-memory-gib": host, "--weights-gib": 80}
    message = refused("--model", V32, *flat(given))
    found = re.search(r"set ([\d.]+) or more, or a --context of at most (\d+)$", message)
    assert message.startswith(f"Error: {flag}: got {given[flag]:g}, too little for")
    assert found
    assert as_json("--model", V32, *flat(given | {flag: found[1]}))["hierarchical"]["requests"] == 1
    shorter = as_json("--model", V32, *flat(given), "--context", found[2])
    assert shorter["hierarchical"]["requests"] == 1
    refused("--model", V32, *flat(given), "--context", int(found[2]) + 1)


def flat(given: dict[str, Any]) -> list[object]:
    return [word for pair in given.items() for word in pair]


def test_what_does_not_fit_as_json() -> None:
    done = plan("--json", "--model", V32, "--gpu-memory-gib", 139, "--host-memory-gib", 1024)
    assert (done.exit_code, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["fits"] is False
    assert "the weights alone take" in found["problem"]


def test_resident_mode_may_hold_none_where_hierarchical_holds_some() -> None:
    few = ("--model", V32, "--gpu-memory-gib", 91, "--host-memory-gib", 1024, "--weights-gib", 80)
    report = as_json(*few)
    assert report["resident"] == {"requests": 0, "bounded_by": "device memory"}
    assert report["hierarchical"]["requests"] > 0
    assert "resident           0   bounded by device memory" in plan(*few).stdout
    assert "in resident mode" in refused(*few, "--mode", "resident")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", V32, "--host-memory-gib", 1), 2, "Missing option '--gpu-memory-gib'"),
        (
            ("--model", V32, "--gpu-memory-gib", 1),
            1,
            "hisparse.host_memory_gib: is missing; say how much main memory",
        ),
        (
            ("--gpu-memory-gib", 1, "--host-memory-gib", 1),
            1,
            "model: is missing; give a checkpoint folder by --model",
        ),
        (
            ("--model", V32, *RANK, "--context", 163841),
            1,
            "--context: got 163841, expected from 1 to the model's 163840",
        ),
        (("--model", V32, *RANK, "--context", 0), 2, "--context"),
        (
            ("--model", V32, *RANK, "--device-buffer-size", 100),
            1,
            "hisparse.device_buffer_size: 100 is smaller than",
        ),
        (("--model", "/nowhere", *RANK), 1, "/nowhere: no such folder"),
        (
            ("--model", V32, *RANK, "--png", "/nowhere/x.png"),
            1,
            "cannot write /nowhere/x.png: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_named(arguments: tuple[object, ...], code: int, message: str) -> None:
    done = plan(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_capacities_are_what_it_works_out_and_none_to_give(tmp_path: Path) -> None:
    file = tmp_path / "hisparse.yaml"
    file.write_text(f"model: {V32}\nhisparse: {{host_memory_gib: 9, device_tokens: 9000}}\n")
    message = refused("--config", file, "--gpu-memory-gib", 139, "--weights-gib", 1)
    assert message == (
        "Error: hisparse.device_tokens: is what the plan works out; leave it out, or see what it comes to by hisparse "
        f"config check ({file}:2)"
    )


# ---- what has to be installed --------------------------------------------------------------------------------


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plan.png"
    done = plan("--model", V32, *RANK, "--png", path)
    assert (done.exit_code, done.stderr) == (0, f"wrote {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_it_needs_no_torch(checkpoint: Path) -> None:
    packages = {"torch", "numpy", "safetensors", "tokenizers", "fastapi", "uvicorn", "matplotlib", "yaml"}
    done = without(packages, "plan", "--model", checkpoint, "--gpu-memory-gib", 2, "--host-memory-gib", 1)
    assert done.returncode == 0, done.stderr
    assert "Requests at the same time" in done.stdout


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path) -> None:
    done = without({"matplotlib"}, "plan", "--model", V32, *RANK, "--png", tmp_path / "x.png")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: matplotlib is not installed, so there is no picture; run: pip install 'hisparse[report]'\n"
    )


def test_help_is_there_in_a_base_install() -> None:
    done = without({"pydantic", "yaml", "torch", "numpy", "rich"}, "plan", "--help")
    assert done.returncode == 0, done.stderr
    assert "hisparse plan --model DIR --gpu-memory-gib" in done.stdout
