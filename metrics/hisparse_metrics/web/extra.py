"""Packages of the ``[web]`` extra, imported when a feature needs them, so that the base install stays tiny."""

from __future__ import annotations

import importlib
from types import ModuleType

from hisparse_metrics.web.errors import MissingExtraError


def load_extra(module: str, *, package: str, feature: str) -> ModuleType:
    """Import ``module``; :class:`MissingExtraError` says what to install for ``feature`` when it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, package) from error
