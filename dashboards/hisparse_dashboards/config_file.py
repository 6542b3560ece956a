"""A deployer's configuration file, in YAML: read, and refused with every wrong field and its path at once."""

from __future__ import annotations

from pathlib import Path

import yaml

from hisparse_dashboards.config import DEFAULT, Config, parse


class ConfigFileError(Exception):
    """A configuration file cannot be used; the message is one sentence that can be shown as it is."""


def load(path: Path | None) -> Config:
    """Return the configuration in ``path``; the default without one."""
    if path is None:
        return DEFAULT
    try:
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigFileError(
            f"cannot read {path}: {error.strerror}; choose another with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path} is not UTF-8 text; choose another with --config") from error
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ConfigFileError(f"{path}: {error}; docs/alerts.md lists the thresholds") from error
