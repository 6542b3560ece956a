"""Print what the base install and the named extras need, out of pyproject.toml: ``requirements.py [EXTRA ...]``.

An image installs its dependencies before the sources are there, so that a change of a source does not fetch torch
again. Runs with nothing but Python.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the requirements, each once; ``ValueError`` when there is no such extra."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(known)):
        raise ValueError(f"{pyproject} has no extra {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    wanted = [*project["dependencies"], *(line for extra in extras for line in known[extra])]
    return list(dict.fromkeys(wanted))


if __name__ == "__main__":
    try:
        print(*requirements(Path("pyproject.toml"), sys.argv[1:]), sep="\n")  # noqa: T201 - the program's output
    except (OSError, ValueError) as error:
        sys.exit(f"requirements.py: {error}")
