from __future__ import annotations

import builtins
import importlib
from pathlib import Path

import pytest

from hisparse_metrics.sidecar.config import SidecarConfig, SidecarConfigError, SidecarError, parse_config
from hisparse_metrics.sidecar.config_file import load_config

WHOLE = """
sources:
  sglang_log: [/var/log/sglang/*.log, "-"]
  cri: /var/log/pods/*/*/*.log
  journald_unit: [sglang]
labels: {model: glm-5, engine_name: "{pod}"}
stale_after: 90
state_file: /var/lib/hisparse/sidecar.json
from_start: true
stats_dir: /dev/shm/hisparse
web: {listen_address: "0.0.0.0:9477", config_file: web.yaml, telemetry_path: /m}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(WHOLE)
    config = load_config(path).check()
    assert config.sources.sglang_log == ("/var/log/sglang/*.log",)
    assert config.sources.stdin
    assert config.sources.count == 4
    assert config.labels.engine_name == "{pod}"
    assert (config.stale_after, config.from_start) == (90.0, True)
    assert config.state_file == Path("/var/lib/hisparse/sidecar.json")
    assert config.web.listen_address == ("0.0.0.0:9477",)


def test_every_wrong_field_is_named_with_its_path_at_once() -> None:
    with pytest.raises(SidecarConfigError) as caught:
        parse_config(
            {
                "sources": {"sglang_log": 7, "cry": "x", "stdin": "yes"},
                "labls": {},
                "labels": {"engine_name": "{node}"},
                "stale_after": 0,
                "state_file": "",
                "web": [],
            }
        )
    text = "\n".join(caught.value.problems)
    for path in ("sources.sglang_log", "sources.cry", "sources.stdin", "labls", "labels.engine_name", "stale_after",
                 "state_file", "web"):  # fmt: skip
        assert f"{path}: " in text, text
    assert "did you mean cri?" in text
    assert "did you mean labels?" in text


@pytest.mark.parametrize("data", [7, "text", ["a"]])
def test_what_is_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(SidecarConfigError, match="expected a mapping"):
        parse_config(data)


@pytest.mark.parametrize("value", [True, "60", float("nan"), float("inf"), -1, 0])
def test_stale_after_is_a_number_above_zero(value: object) -> None:
    with pytest.raises(SidecarConfigError, match="stale_after"):
        parse_config({"stale_after": value})


def test_flags_add_sources_and_replace_values() -> None:
    base = parse_config({"sources": {"sglang_log": "/a"}, "labels": {"model": "m"}, "stale_after": 5})
    merged = base.merged(
        {"sources": {"sglang_log": ("/b", "-")}, "labels": {"engine_name": "e"}, "stale_after": 7.0}
    )
    assert merged.sources.sglang_log == ("/a", "/b")
    assert merged.sources.stdin
    assert (merged.labels.model, merged.labels.engine_name, merged.stale_after) == ("m", "e", 7.0)
    assert base.merged({}) == base


def test_nothing_to_follow_is_an_error() -> None:
    with pytest.raises(SidecarConfigError, match="nothing to follow"):
        SidecarConfig().check()


def test_a_missing_file_and_broken_yaml_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match=r"cannot read .*none\.yaml"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(SidecarConfigError, match=r"broken\.yaml"):
        load_config(broken)


def test_json_needs_no_yaml_and_yaml_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_yaml(name: str, *rest: object) -> object:
        if name == "yaml":
            raise ModuleNotFoundError(name=name)
        return builtins.__import__(name)

    monkeypatch.setattr(importlib, "import_module", without_yaml)
    path = tmp_path / "c"
    path.write_text('{"sources": {"stdin": true}}')
    assert load_config(path).sources.stdin
    path.write_text("sources: {stdin: true}")
    with pytest.raises(SidecarError, match=r"pip install 'hisparse\[web\]'"):
        load_config(path)
