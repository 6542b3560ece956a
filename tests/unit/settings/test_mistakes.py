"""Every mistake at once, each with its path, its origin and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from hisparse_engine.errors import CheckpointError, ConfigError
from hisparse_engine.settings.file import read_settings_file
from hisparse_engine.settings.given import Given, Problem, SettingsError, Value
from hisparse_engine.settings.report import make_report, parse_contexts
from hisparse_engine.settings.resolve import resolve
from tests.support.models import TOP_K, tiny_config

MODEL = tiny_config()
TWICE = "is given beside hisparse.host_tokens, and both say one thing; remove one"


def given(**by_section: dict[str, object]) -> Given:
    return {
        (section, name): Value(value, f"{section[0]}.{name}")
        for section, values in by_section.items()
        for name, value in values.items()
    }


def problems_of(values: Given, *of_form: Problem) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        resolve(values, of_form, model=MODEL)
    assert all(str(problem) in str(refused.value) for problem in refused.value.problems)
    return [str(problem) for problem in refused.value.problems]


def test_everything_that_is_wrong_is_said_at_once_in_the_files_order(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "server: {port: 99999, drain_timeout: .inf, max_waiting: 3}\n"
        "sever: {port: 1, host: here}\n"
        "engine:\n  mode: fast\n  threads: '4'\n  prefix_reuse: 1\n  verify_every: -3\n  port: 80\n"
        "hisparse:\n  host_tokens: 100\n  host_memory_gib: 2\n  host_tokens: 5\n  device_tokens: [1]\n"
        "metrics: yes\n"
    )
    found = read_settings_file(file)
    assert problems_of(found.values, *found.problems) == [
        f"engine.mode: got 'fast', expected 'hierarchical' or 'resident' ({file}:4)",
        f"engine.prefix_reuse: got 1, expected true or false ({file}:6)",
        f"engine.threads: got '4', expected an integer ({file}:5)",
        f"engine.verify_every: got -3, expected 0 or more ({file}:7)",
        f"engine.port: unknown key; did you mean server.port? ({file}:8)",
        f"hisparse.device_tokens: got a list, expected an integer ({file}:13)",
        f"hisparse.host_tokens: is there twice, first in line 10; keep one ({file}:12)",
        f"hisparse.host_memory_gib: {TWICE} ({file}:11)",
        f"server.port: got 99999, expected at most 65535 ({file}:1)",
        f"server.drain_timeout: got inf, expected a finite number ({file}:1)",
        f"server.max_waiting: unknown key; did you mean server.max_waiting_requests? ({file}:1)",
        f"metrics: got true, expected keys and values ({file}:14)",
        f"sever: unknown key; did you mean server? ({file}:2)",
    ]


def test_a_mistake_in_one_place_hides_none_in_another() -> None:
    wrong = given(engine={"mode": "fast"}, hisparse={"device_buffer_size": TOP_K - 1, "index_tokens": 0})
    assert [line.split(": ")[0] for line in problems_of(wrong)] == [
        "engine.mode",
        "hisparse.device_buffer_size",
        "hisparse.index_tokens",
    ]


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ({"host_tokens": True}, "hisparse.host_tokens: got true, expected an integer"),
        ({"host_tokens": 1.5}, "hisparse.host_tokens: got 1.5, expected an integer"),
        ({"host_tokens": 2**31}, "hisparse.host_tokens: got 2147483648, expected at most 2147483647"),
        ({"host_memory_gib": 0}, "hisparse.host_memory_gib: got 0, expected more than 0"),
        ({"host_memory_gib": float("nan")}, "hisparse.host_memory_gib: got nan, expected a finite number"),
        ({"host_memory_gib": 1e-9}, "hisparse.host_memory_gib: got 1e-09, which is too little for one token's KV rows"),
        ({"device_memory_gib": 1e-9}, "hisparse.device_memory_gib: got 1e-09, which is too little for one hot buffer"),
        ({"host_memory_gib": 2.0**20}, "hisparse.host_memory_gib: comes to 1954687338268 tokens, and a pool has"),
        ({"device_memory_gib": 2.0**20}, "hisparse.device_memory_gib: comes to"),
        ({"device_tokens": TOP_K}, f"hisparse.device_tokens: got {TOP_K}, less than one hot buffer"),
        ({"device_tokens": 40, "device_buffer_size": 40}, "hisparse.device_tokens: got 40, less than one hot buffer"),
        ({"device_tokens": 9, "device_memory_gib": 1.0}, "hisparse.device_memory_gib: is given beside"),
        ({"device_buffer_size": TOP_K - 1}, f"hisparse.device_buffer_size: {TOP_K - 1} is smaller than the model's"),
    ],
)  # fmt: skip
def test_tiers_that_cannot_be(tiers: dict[str, object], message: str) -> None:
    assert any(line.startswith(message) for line in problems_of(given(hisparse=tiers)))


def test_without_a_model_a_pool_is_held_against_its_buffer() -> None:
    values = given(hisparse={"device_tokens": 40, "device_buffer_size": 40})
    with pytest.raises(SettingsError, match="set 41 or more"):
        resolve(values, model_required=False)
    assert resolve(given(hisparse={"device_tokens": 1}), model_required=False).plan is None


def test_resident_mode_has_no_hot_buffer_to_be_too_small() -> None:
    values = given(engine={"mode": "resident"}, hisparse={"device_tokens": 5, "device_buffer_size": 9})
    resolved = resolve(values, model=MODEL)
    assert resolved.plan is not None
    assert resolved.plan.sizes.device_tokens == 5


def test_a_checkpoint_that_cannot_be_read_speaks_for_itself_or_joins_the_rest(tmp_path: Path) -> None:
    missing = {("model",): Value(tmp_path / "none", "--model")}
    with pytest.raises(CheckpointError, match="no such folder") as alone:
        resolve(missing)
    lines = problems_of({**missing, **given(server={"port": -1})})
    assert lines == [f"model: {alone.value} (--model)", "server.port: got -1, expected 0 or more (s.port)"]


def test_a_model_is_asked_for_where_one_is_needed() -> None:
    with pytest.raises(
        SettingsError, match="model: is missing; give a checkpoint folder by --model, HISPARSE_MODEL"
    ):
        resolve({})
    assert resolve({}, model_required=False).model is None


def test_one_mistake_is_one_line_and_many_have_a_heading() -> None:
    one, two = Problem(("a", "b"), "no"), Problem(("c",), "never", "x.yaml:3")
    assert str(SettingsError([one])) == "a.b: no"
    assert (
        str(SettingsError([one, two]))
        == "the configuration has 2 problems:\n  a.b: no\n  c: never (x.yaml:3)"
    )


# ---- the file's form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine: {", "is no valid YAML: .*line 1"),
        ("- a\n- b\n", "expected sections such as 'hisparse:'"),
        ("just words", "expected sections such as 'hisparse:'"),
        ("a: !!python/object/apply:os.system ['true']\n", "is no valid YAML: .*python/object"),
        ("a: 1\n---\nb: 2\n", "is no valid YAML: expected a single document"),
        ("a: *b\n", "is no valid YAML: found undefined alias"),
        ("a: " + "[" * 5000, "nested too deeply|no valid YAML"),
    ],
)
def test_a_file_that_is_no_settings_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        read_settings_file(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_says_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert (read_settings_file(path).values, read_settings_file(path).problems) == ({}, [])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"model: \xe9\n")
    for name, reason in (("none", "No such file"), (".", "Is a directory"), ("latin", "not UTF-8 text")):
        with pytest.raises(ConfigError, match=f"{reason}.*; choose another with --config"):
            read_settings_file(tmp_path / name)


def test_doubled_sections_and_odd_keys_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        'engine: {threads: 1}\nengine: {threads: 2}\n[a, b]: 1\n5: 6\nhisparse.host_tokens: 7\n"\\e[2J": 8\n'
    )
    found = read_settings_file(path)
    assert problems_of(found.values, *found.problems) == [
        f"engine: is there twice, first in line 1; keep one ({path}:2)",
        f"a key that is a sequence: unknown key; there are model, engine, hisparse, server, metrics ({path}:3)",
        f"5: unknown key; there are model, engine, hisparse, server, metrics ({path}:4)",
        f"hisparse.host_tokens: unknown key; write host_tokens under 'hisparse:' ({path}:5)",
        f"'\\x1b[2J': unknown key; there are model, engine, hisparse, server, metrics ({path}:6)",
    ]


# ---- what is no mistake, but worth a note --------------------------------------------------------------------


def test_what_has_no_effect_is_noted() -> None:
    values = given(engine={"mode": "resident", "reserve_quantile": 0.5}, hisparse={"host_memory_gib": 1.0})
    notes = make_report(resolve(values, model=MODEL), [10]).notes
    assert "hisparse.host_memory_gib is not used in resident mode" in notes
    assert "engine.reserve_quantile is not used while engine.reserve is worst-case" in notes


def test_pools_larger_than_this_machine_are_noted() -> None:
    huge = make_report(resolve(given(hisparse={"host_memory_gib": 1000.0}), model=MODEL), [10]).notes
    assert any(note.startswith("weights and pools take ") and "this machine has" in note for note in huge)
    assert not any("this machine" in note for note in make_report(resolve({}, model=MODEL), [10]).notes)


@pytest.mark.parametrize("text", ["", "1,x", "0", "-5", "513", "1.5"])
def test_contexts_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"got|expected"):
        parse_contexts(text, MODEL)


def test_contexts_left_open_are_those_that_the_model_has_positions_for() -> None:
    assert parse_contexts(None, MODEL) == (512,)
    assert parse_contexts(None, tiny_config(max_position_embeddings=40000)) == (8192, 32768)
    assert parse_contexts("7,512", MODEL) == (7, 512)
    assert parse_contexts(None, None) == ()


def test_the_budget_is_named_as_the_knob_where_it_decides() -> None:
    report = make_report(resolve(given(hisparse={"host_memory_gib": 1e-5}), model=MODEL), [12])
    (row,) = report.concurrency
    assert (row.first_to_run_out, row.raise_setting) == (
        "host pool",
        "hisparse.host_memory_gib (--host-memory-gib)",
    )
    plain = make_report(resolve(given(hisparse={"host_tokens": 18}), model=MODEL), [12]).concurrency[0]
    assert plain.raise_setting == "hisparse.host_tokens (--host-tokens)"


def test_rows_that_cannot_be_in_float8_are_a_mistake_among_others() -> None:
    values = given(engine={"kv_cache_dtype": "float8"}, hisparse={"device_buffer_size": TOP_K - 1})
    first, second = problems_of(values)
    assert first == (
        "engine.kv_cache_dtype: float8 has a scale for every 128 numbers of a latent, and the model's latents have 32 "
        "(kv_lora_rank), no multiple of that; use auto (e.kv_cache_dtype)"
    )
    assert second.startswith("hisparse.device_buffer_size: ")
    wide = tiny_config(kv_lora_rank=128)
    resolved = resolve(given(engine={"kv_cache_dtype": "float8"}), model=wide)
    assert resolved.plan is not None
    assert resolved.plan.token.kv_rows == 3 * 176


def test_the_report_says_what_is_computed_and_stored_in() -> None:
    half = tiny_config(kv_lora_rank=128, dtype="bfloat16")
    for fields, expected in (
        ({}, ("float32", "float32")),
        ({"device": "cuda"}, ("bfloat16", "bfloat16")),
        ({"device": "cuda", "kv_cache_dtype": "float8"}, ("bfloat16", "float8")),
    ):
        report = make_report(resolve(given(engine=fields), model=half), (100,))
        assert report.model is not None
        assert (report.model["dtype"], report.model["kv_row_dtype"]) == expected
        assert not any("no compiled kernels" in note for note in report.notes)
    slow = make_report(resolve(given(engine={"device": "cuda"}), model=MODEL), (100,))
    assert any("engine.dtype comes to float32" in note for note in slow.notes)
