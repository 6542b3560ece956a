from __future__ import annotations

from typing import Any

import pytest

from hisparse_dashboards import generate, layout

BOARDS = {board.uid: layout.as_json(board) for board in generate.every_dashboard()}


@pytest.fixture(params=BOARDS.values(), ids=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each dashboard in turn, as a Grafana would load it."""
    found: dict[str, Any] = request.param
    return found


@pytest.fixture
def overview() -> dict[str, Any]:
    return BOARDS["hisparse-overview"]


@pytest.fixture
def engine() -> dict[str, Any]:
    return BOARDS["hisparse-engine"]


@pytest.fixture
def sidecar() -> dict[str, Any]:
    return BOARDS["hisparse-sidecar"]
