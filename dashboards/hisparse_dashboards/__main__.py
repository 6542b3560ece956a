"""``python -m hisparse_dashboards [--check] [--root DIR]``: write the generated files, or tell which are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hisparse_dashboards import generate


def main(arguments: list[str] | None = None) -> int:
    """Generate under the repository root; with --check write nothing and return 1 when anything is stale."""
    options = _parser().parse_args(arguments)
    if not (options.root / "pyproject.toml").exists():
        _say(f"{options.root} is not the repository root: it has no pyproject.toml; give it with --root")
        return 2
    if not options.check:
        for path in generate.write(options.root):
            _say(str(path))
        return 0
    if generate.check(options.root, _say):
        return 0
    _say("stale: run `python -m hisparse_dashboards` and commit what it writes")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hisparse_dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff when stale")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository root (default: here)")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
