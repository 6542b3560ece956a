"""What a person can mend about an endpoint. Each message names the input, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class ExporterError(Exception):
    """The endpoint cannot be served; the message names the address, the reason and the remedy."""


class MissingExtraError(ExporterError):
    """A feature was asked for whose packages a base install does not bring."""

    def __init__(self, feature: str, package: str) -> None:
        super().__init__(
            f"{feature} needs {package}, which is not installed; run: pip install 'hisparse[web]'"
        )


class WebConfigError(ExporterError):
    """A web-config file cannot be used; :attr:`problems` has every reason, each with the path of its key."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__(f"web config {path} cannot be used: " + "; ".join(problems))
        self.path = path
        self.problems = tuple(problems)
