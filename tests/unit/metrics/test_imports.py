"""The import graph: metrics knows neither the engine nor torch, and has no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hisparse_metrics

PACKAGE = Path(hisparse_metrics.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ALLOWED_ROOTS = {"hisparse_metrics", "prometheus_client", "__future__"} | set(sys.stdlib_module_names)
DRAWS_WITH_RICH = {PACKAGE / "top" / "app.py", *(PACKAGE / "top" / "draw").glob("*.py")}
"""What `hisparse top` draws with; nothing imports it before there is something to draw."""


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 for node in froms), "absolute imports only"
    names = {str(node.module) for node in froms} | {
        f"{node.module}.{a.name}" for node in froms for a in node.names
    }
    return plain | names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_module_imports_only_what_a_base_install_has(path: Path) -> None:
    allowed = ALLOWED_ROOTS | ({"rich"} if path in DRAWS_WITH_RICH else set())
    assert {name.partition(".")[0] for name in imported(path)} <= allowed


def test_there_is_no_circle() -> None:
    names = {
        ".".join(("hisparse_metrics", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in MODULES
    }
    graph = {name: imported(path) & names.keys() - {name} for name, path in names.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(names)


def test_engine_side_needs_no_prometheus_client_and_nothing_needs_torch() -> None:
    """The engine records and logs without the client library in its process; the exporter runs without torch."""
    check = (
        "import sys, hisparse_metrics.recorder, hisparse_metrics.decode_logger\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "import hisparse_metrics.exporter, hisparse_metrics.docs\n"
        "assert not {'torch', 'numpy', 'hisparse_engine'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
