"""Arrows point one way: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = {
    "hisparse_engine": ROOT / "hisparse_engine",
    "hisparse_metrics": ROOT / "metrics" / "hisparse_metrics",
    "hisparse_dashboards": ROOT / "dashboards" / "hisparse_dashboards",
}
ALLOWED = {
    "hisparse_engine.memory": {"memory", "ops", "errors"},
    "hisparse_engine.ops": {"ops", "errors"},
    "hisparse_engine.models": {"models", "ops", "errors"},
}
"""What of the engine these packages may know; the rest of it is above them."""


@cache
def imports_of(module: str) -> frozenset[str]:
    """Every module that ``module`` imports anywhere, a name of ours as the module that defines it."""
    tree = ast.parse(sources()[module].read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & sources().keys()
            found |= submodules or {node.module}
    return frozenset(found)


@cache
def sources() -> dict[str, Path]:
    return dict(modules_of(PACKAGES))


def modules_of(packages: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    for package, folder in packages.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def within(package: str) -> list[str]:
    return sorted(name for name in sources() if name == package or name.startswith(package + "."))


def assert_no_import(modules: list[str], *forbidden: str) -> None:
    assert modules, "the rule looks at something"
    wrong = [
        f"{module} imports {target}"
        for module in modules
        for target in sorted(imports_of(module))
        if any(target == name or target.startswith(name + ".") for name in forbidden)
    ]
    assert not wrong, "\n".join(wrong)


def test_metrics_know_neither_the_engine_nor_torch() -> None:
    assert_no_import(
        within("hisparse_metrics"), "hisparse_engine", "hisparse_dashboards", "torch", "numpy", "pydantic"
    )


def test_dashboards_know_only_the_catalogue() -> None:
    assert_no_import(within("hisparse_dashboards"), "hisparse_engine", "torch")
    allowed = {"hisparse_metrics", "hisparse_metrics.catalogue", "hisparse_metrics.metric"}
    used = {
        target
        for module in within("hisparse_dashboards")
        for target in imports_of(module)
        if target.startswith("hisparse_metrics")
    }
    assert used
    assert used <= allowed


@pytest.mark.parametrize("package", ALLOWED)
def test_the_lower_packages_know_nobody_above_them(package: str) -> None:
    used = {
        target.split(".")[1] if "." in target else target
        for module in within(package)
        for target in imports_of(module)
        if target.split(".")[0] == "hisparse_engine"
    }
    assert used
    assert used <= ALLOWED[package]


def test_the_engine_needs_neither_dashboards_nor_transformers() -> None:
    """The command that builds and pushes dashboards is the one door to them, and imports them when it runs."""
    assert_no_import(
        [name for name in within("hisparse_engine") if name != "hisparse_engine.commands.dashboards"],
        "hisparse_dashboards",
        "transformers",
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_form_no_circle(package: str) -> None:
    graph = {module: imports_of(module) & sources().keys() for module in within(package)}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))
    assert set(within(package)) <= set(order)


@pytest.mark.parametrize(
    "module", ["hisparse_engine.cli", "hisparse_metrics.exporter", "hisparse_metrics.stats"]
)
def test_the_base_install_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(','.join({{'torch', 'numpy', 'pydantic'}} & sys.modules.keys()) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
