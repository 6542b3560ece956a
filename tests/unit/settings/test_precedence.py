"""Flag over variable over file over default, for every setting and every command that has it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from hisparse_engine.commands.options import SETTINGS, GivenSettings, SettingSpec, setting_options
from hisparse_engine.settings.given import dotted
from hisparse_engine.settings.models import Settings
from hisparse_engine.settings.reference import Entry, as_yaml, entries
from hisparse_engine.settings.resolve import Resolved

IDS = [dotted(spec.path) for spec in SETTINGS]
ALL = ("model", "engine", "hisparse", "server", "metrics")


def resolve(
    arguments: Sequence[str],
    variables: dict[str, str] | None = None,
    *,
    sections: Sequence[str] = ALL,
    defaults: dict[str, object] | None = None,
) -> Resolved:
    """Run a command that only resolves its settings."""
    found: list[Resolved] = []

    @click.command(context_settings={"default_map": defaults} if defaults else None)
    @setting_options(*sections)
    def command(given: GivenSettings) -> None:
        found.append(given.resolve(model_required=False))

    result = CliRunner(env=variables).invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


def value_of(resolved: Resolved, spec: SettingSpec) -> object:
    owner = resolved.settings if len(spec.path) == 1 else getattr(resolved.settings, spec.path[0])
    return getattr(owner, spec.name)


def three_values(spec: SettingSpec, tmp_path: Path) -> tuple[object, object, object]:
    """Return values for flag, variable and file that differ as far as the kind allows, none of them the default."""
    if spec.kind is click.INT:
        return 41, 42, 43
    if spec.kind is click.FLOAT:
        return 0.25, 0.5, 0.75
    if spec.kind is click.BOOL:
        return True, False, True
    if isinstance(spec.kind, click.Choice):
        last = spec.kind.choices[-1]
        return last, spec.kind.choices[0], last
    return "flag", "variable", "file"


def write(path: Path, spec: SettingSpec, value: object) -> Path:
    data: object = value
    for key in reversed(spec.path):
        data = {key: data}
    path.write_text(yaml.safe_dump(data))
    return path


def as_flag(spec: SettingSpec, value: object) -> list[str]:
    flags = spec.flags.split("/")
    if spec.kind is click.BOOL:
        return [flags[0 if value else 1]]
    return [flags[0], str(value)]


@pytest.fixture
def needs_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``model`` name folders that are none: what counts here is which one is asked for."""
    monkeypatch.setattr("hisparse_engine.settings.resolve._read", lambda _folder, _problems: None)


@pytest.mark.parametrize("spec", SETTINGS, ids=IDS)
@pytest.mark.usefixtures("needs_no_checkpoint")
def test_flag_then_variable_then_file_then_default(spec: SettingSpec, tmp_path: Path) -> None:
    by_flag, by_variable, by_file = three_values(spec, tmp_path)
    file = write(tmp_path / "hisparse.yaml", spec, by_file)
    (default,) = (entry.value for entry in entries() if entry.spec is spec)
    for flag, variable, in_file in itertools.product([True, False], repeat=3):
        arguments = as_flag(spec, by_flag) if flag else []
        arguments += ["--config", str(file)] if in_file else []
        resolved = resolve(arguments, {spec.envvar: str(by_variable)} if variable else {})
        expected, origin = next(
            (value, place)
            for given, value, place in (
                (flag, by_flag, f"--{spec.name.replace('_', '-')}"),
                (variable, by_variable, spec.envvar),
                (in_file, by_file, f"{file}:{len(spec.path)}"),
                (True, default, None),
            )
            if given
        )
        found = value_of(resolved, spec)
        if isinstance(found, Path) and origin and origin.startswith(str(file)):
            found = str(found.relative_to(tmp_path))
        assert (str(found) if isinstance(found, Path) else found) == expected
        assert (resolved.given[spec.path].origin if spec.path in resolved.given else None) == origin


def test_the_file_may_come_from_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("server: {port: 7}\n")
    assert resolve([], {"HISPARSE_CONFIG": str(file)}).settings.server.port == 7


def test_an_empty_variable_and_an_empty_key_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("engine:\n  threads:\nserver:\n  port:\nmetrics:\n")
    resolved = resolve(["--config", str(file)], {"HISPARSE_PORT": ""})
    assert resolved.settings == Settings()
    assert not resolved.given


def test_a_commands_own_defaults_go_behind_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("engine: {threads: 5}\n")
    defaults: dict[str, object] = {"threads": 1, "verify_every": 16}
    resolved = resolve(["--config", str(file)], defaults=defaults)
    assert (resolved.settings.engine.threads, resolved.settings.engine.verify_every) == (5, 16)
    assert resolve([], defaults=defaults).settings.engine.threads == 1


def test_sections_that_a_command_does_not_use_are_read_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("server: {port: 7}\nengine: {threads: 3}\n")
    resolved = resolve(["--config", str(file)], sections=("engine",))
    assert (resolved.settings.server.port, resolved.settings.engine.threads) == (7, 3)


def test_json_is_yaml(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"engine": {"prefix_reuse": false, "reserve_quantile": 0.5}}')
    engine = resolve(["--config", str(file)]).settings.engine
    assert (engine.prefix_reuse, engine.reserve_quantile) == (False, 0.5)


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = tmp_path / "a.yaml"
    file.write_text("server: {api_key_file: keys.txt}\nmetrics: {stats_dir: ~/stats}\n")
    settings = resolve(["--config", str(file)]).settings
    assert settings.server.api_key_file == tmp_path / "keys.txt"
    assert settings.metrics.stats_dir == Path("/home/somebody/stats")
    assert resolve(["--stats-dir", "stats"]).settings.metrics.stats_dir == Path("stats")


# ---- the flags and the models say the same -------------------------------------------------------------------


def test_every_setting_has_a_flag_and_every_flag_a_setting() -> None:
    def leaves() -> Iterator[tuple[str, ...]]:
        for name, value in Settings():
            keys = list(type(value).model_fields) if hasattr(value, "model_fields_set") else []
            yield from [(name, key) for key in keys] if keys else [(name,)]

    assert sorted(spec.path for spec in SETTINGS) == sorted(leaves())
    assert len({spec.name for spec in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("entry", list(entries()), ids=IDS)
def test_a_flag_tells_the_models_default_and_choices(entry: Entry) -> None:
    if entry.value is not None:
        assert type(entry.value)(yaml.safe_load(entry.spec.default)) == entry.value
    words = {click.INT: "integer", click.FLOAT: "number", click.BOOL: "true or false", click.STRING: "text"}
    if isinstance(entry.spec.kind, click.Choice):
        assert entry.accepts == " or ".join(entry.spec.kind.choices)
    else:
        assert entry.accepts.startswith(words.get(entry.spec.kind, "path"))


def test_the_file_that_init_prints_says_nothing_until_lines_are_uncommented(tmp_path: Path) -> None:
    text = as_yaml()
    file = tmp_path / "hisparse.yaml"
    file.write_text(text)
    assert not resolve(["--config", str(file)]).given
    keys = [line for line in text.splitlines() if line.lstrip().startswith("#") and "# " not in line]
    assert len(keys) == len(SETTINGS)
    file.write_text("\n".join(line.replace("#", "") if line in keys else line for line in text.splitlines()))
    resolved = resolve(["--config", str(file)])
    assert resolved.settings == Settings()
    assert set(resolved.given) == {entry.spec.path for entry in entries() if entry.value is not None}
