"""What follows from the recorded vocabulary alone, alike for every engine."""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config


def rules(config: Config) -> dict[str, str]:
    """Return name → expression."""
    usage = v.HOST_TOKEN_USAGE
    slope = f"deriv({usage}[{config.prediction_window}])"
    recently = f"deriv({usage}[{config.rate_window}])"
    # Both slopes must rise: the long one alone still points up for a while after a drop, the short one is noise.
    return {v.HOST_TIME_TO_FULL: f"(1 - {usage}) / ({slope} > 0) and {recently} > 0"}
