"""``hisparse config``, and one file for every command: what the check says is what the engine then does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hisparse_engine.cli import main
from hisparse_engine.settings import docs
from tests.support.chat_checkpoint import write_chat_checkpoint
from tests.support.serving import MODEL, serving

ROOT = Path(__file__).parents[2]
FILE = """\
model: {model}
engine: {{threads: 1, max_running_requests: 5}}
hisparse:
  host_memory_gib: 0.002
  device_memory_gib: 0.002
metrics: {{engine_name: checked}}
"""
GIVE = "give the folder that holds config.json and *.safetensors"
FORBIDDEN = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Without())
from hisparse_engine.cli import main
main(prog_name="hisparse")
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def file(checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "hisparse.yaml"
    path.write_text(FILE.format(model=checkpoint))
    return path


def hisparse(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(main, [str(argument) for argument in arguments])


def without(packages: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command where some packages are not installed."""
    code = FORBIDDEN.format(packages=packages)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def check(*arguments: object, **variables: str) -> dict[str, Any]:
    done = hisparse("config", "check", "--json", *arguments, **variables)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_the_check_shows_settings_origins_pools_and_what_runs_out_first(file: Path) -> None:
    done = hisparse(
        "config", "check", "--config", file, "--port", 9, "--context", "100,4096", HISPARSE_DTYPE="bfloat16"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["server.port", "9", "--port"] in words
    assert ["engine.dtype", "bfloat16", "HISPARSE_DTYPE"] in words
    assert ["engine.max_running_requests", "5", f"{file}:2"] in words
    assert ["hisparse.host_tokens", "7456", "from", "hisparse.host_memory_gib"] in words
    assert ["host", "pool", "7,456", "288", "2,147,328", "0.002"] in words
    (least, most) = (row for row in words if row[:1] in (["100"], ["4,096"]))
    assert least[1] == "5"
    assert least[3:5] == ["running", "requests"]
    assert most[1] == "1"
    assert most[-2:] == ["hisparse.host_memory_gib", "(--host-memory-gib)"]


def test_the_json_says_the_same(file: Path) -> None:
    report = check("--config", file, "--context", 4096)
    assert report["valid"] is True
    assert report["settings"]["metrics.engine_name"] == {"value": "checked", "origin": f"{file}:6"}
    assert report["settings"]["server.port"] == {"value": 8000, "origin": "default"}
    memory = report["memory"]
    assert memory["device_bytes"] == sum(p["bytes"] for p in memory["parts"] if p["tier"] == "device")
    assert memory["device_bytes"] <= int(0.002 * 2**30)
    (row,) = report["concurrency"]
    assert row["requests"] == row["capacity"] // row["needed"]


def test_a_server_from_the_same_file_has_these_pools(file: Path, checkpoint: Path, tmp_path: Path) -> None:
    memory = check("--config", file)["memory"]
    with serving(checkpoint, tmp_path / "stats", "--config", str(file)) as server:
        server.client().completions.create(model=MODEL, prompt="the", max_tokens=1)
        values = server.metrics()
    assert values["hisparse_device_token_capacity"] == memory["device_tokens"]
    assert values["hisparse_host_token_capacity"] == memory["host_tokens"]
    assert values["hisparse_index_token_capacity"] == memory["index_tokens"]


def test_generate_takes_the_file_too(file: Path) -> None:
    done = hisparse(
        "generate", "--config", file, "--prompt-ids", "1,2,3", "--max-new-tokens", 2, "--ignore-eos", "--json"
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["token_ids"]) == 2


def test_every_command_refuses_a_wrong_file_alike(file: Path) -> None:
    file.write_text(FILE.format(model="nowhere") + "server: {port: high}\nengines: {}\nhost: {a: 1}\n")
    lines = [
        "Error: the configuration has 3 problems:",
        f"  model: {file.parent / 'nowhere'}: no such folder; {GIVE} ({file}:1)",
        f"  server.port: got 'high', expected an integer ({file}:7)",
        f"  host: unknown key; did you mean server.host? ({file}:9)",
    ]
    for command, code in (
        (["serve"], 1),
        (["generate", "--prompt-ids", "1"], 1),
        (["demo"], 1),
        (["config", "check"], 2),
    ):
        done = hisparse(*command, "--config", file)
        assert (done.exit_code, done.stdout, done.stderr.splitlines()) == (code, "", lines), command


def test_a_wrong_configuration_as_json(file: Path) -> None:
    done = hisparse("config", "check", "--config", file, "--json", "--host-tokens", 7)
    assert done.exit_code == 2
    assert json.loads(done.stdout) == {
        "valid": False,
        "problems": [
            {
                "path": "hisparse.host_memory_gib",
                "problem": "is given beside hisparse.host_tokens, and both say one thing; remove one",
                "origin": f"{file}:4",
            }
        ],
    }


def test_a_missing_file_and_an_impossible_context_are_exit_code_2(file: Path) -> None:
    missing = hisparse("config", "check", "--config", file.parent / "none.yaml")
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    context = hisparse("config", "check", "--config", file, "--context", 5000)
    assert context.exit_code == 2
    assert "got 5000, expected from 1 to the model's 4096 positions" in context.stderr


def test_without_a_model_the_settings_are_checked() -> None:
    done = hisparse("config", "check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "note: no model is named: give --model to see capacities and concurrency" in done.stdout


def test_init_prints_a_file_that_checks(tmp_path: Path) -> None:
    path = tmp_path / "hisparse.yaml"
    path.write_text(hisparse("config", "init").stdout)
    assert all(row["origin"] == "default" for row in check("--config", path)["settings"].values())


# ---- what has to be installed --------------------------------------------------------------------------------


def test_the_check_needs_no_torch(file: Path) -> None:
    done = without(
        {"torch", "numpy", "safetensors", "tokenizers", "fastapi", "uvicorn"},
        "config",
        "check",
        "--config",
        file,
    )
    assert done.returncode == 0, done.stderr
    assert "Requests at the same time" in done.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("pydantic", ("config", "check"), "run: pip install 'hisparse[engine]'"),
        ("pydantic", ("config", "init"), "run: pip install 'hisparse[engine]'"),
        ("yaml", ("generate", "--config", "{file}"), "run: pip install 'hisparse[engine,serve]'"),
    ],
)
def test_what_is_not_there_is_named_with_its_extra(
    missing: str, arguments: tuple[str, ...], message: str, file: Path
) -> None:
    done = without({missing}, *(argument.format(file=file) for argument in arguments))
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "generate", "demo", "config"])
def test_help_is_there_in_a_base_install(command: str) -> None:
    done = without({"pydantic", "yaml", "torch", "numpy", "rich"}, command, "--help")
    assert done.returncode == 0, done.stderr


# ---- the reference -------------------------------------------------------------------------------------------


def test_the_reference_is_fresh() -> None:
    assert docs.main(["--check", str(ROOT / "docs/configuration.md")]) == 0


def test_a_stale_reference_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "configuration.md"
    path.write_text(docs.render().replace("`--host-tokens`", "`--hosts-tokens`"))
    assert docs.main(["--check", str(path)]) == 1
    assert "-| `hisparse.host_tokens` | `--hosts-tokens`" in capsys.readouterr().out
