"""The arrow metrics ← dashboards: of the metrics package only the catalogue is known here, and of the engine nothing."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hisparse_dashboards

PACKAGE = Path(hisparse_dashboards.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CATALOGUE = ("hisparse_metrics.catalogue", "hisparse_metrics.metric.Kind", "hisparse_metrics.metric.Metric")


def imported(path: Path) -> set[str]:
    """Return what ``path`` imports, as full names."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = (node for node in nodes if isinstance(node, ast.ImportFrom))
    return plain | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def named(path: Path) -> str:
    """Return the full name of the module at ``path``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_module_knows_only_the_catalogue(path: Path) -> None:
    names = imported(path)
    assert all(name.startswith(CATALOGUE) for name in names if name.startswith("hisparse_metrics"))
    assert not [name for name in names if name.startswith(("hisparse_engine", "prometheus_client", "torch"))]


def test_there_is_no_circle() -> None:
    modules = {named(path): path for path in MODULES}
    graph = {}
    for name, path in modules.items():
        used = {full for full in imported(path) if full.startswith("hisparse_dashboards")}
        graph[name] = {full if full in modules else full.rpartition(".")[0] for full in used} & modules.keys()
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)
