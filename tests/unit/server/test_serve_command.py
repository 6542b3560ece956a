"""``hisparse serve`` before anything is loaded: what is missing is said, and what to do about it."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest
from click.testing import CliRunner

from hisparse_engine.cli import main
from hisparse_engine.commands import serve


def test_missing_packages_are_named_with_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_spec(name: str) -> ModuleSpec | None:
        return None if name in {"fastapi", "torch"} else ModuleSpec(name, None)

    monkeypatch.setattr(serve, "find_spec", find_spec)
    result = CliRunner().invoke(main, ["serve", "--model", "x"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: fastapi, torch not installed")
    assert "pip install 'hisparse[engine,serve]'" in result.output
