from __future__ import annotations

from typing import Any

import pytest

from hisparse_dashboards import layout, overview
from hisparse_dashboards.config import DEFAULT


@pytest.fixture(scope="session")
def board() -> dict[str, Any]:
    """The Overview as a Grafana would load it."""
    return layout.as_json(overview.build(DEFAULT))
