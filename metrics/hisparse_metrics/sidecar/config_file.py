"""A configuration file: YAML where PyYAML is installed, and JSON (which is YAML) everywhere."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from hisparse_metrics.sidecar.config import SidecarConfig, SidecarConfigError, SidecarError, parse_config


def load_config(path: Path) -> SidecarConfig:
    """Read and validate ``path``; :class:`SidecarError` names the file and everything that is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SidecarError(f"cannot read {path}: {reason}; choose another with --config") from error
    return parse_config(parse_yaml(text, path), f" in {path}")


def parse_yaml(text: str, path: Path) -> object:
    """Return the plain values of a YAML or JSON text."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise SidecarError(
            f"{path} is YAML and PyYAML is not installed; run: pip install 'hisparse[web]', or write the file as JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SidecarConfigError([" ".join(str(error).split())], f" in {path}") from error
