"""``python -m hisparse_dashboards [--check] [--root DIR]``: write the generated files, or tell which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from hisparse_dashboards import generate
from hisparse_dashboards.config import DEFAULT, Config


def main(arguments: list[str] | None = None) -> int:
    """Generate under the repository root; with --check write nothing and return 1 when anything is stale."""
    options = _parser().parse_args(arguments)
    return build_in_repository(options.root, DEFAULT, check=options.check, say=_say)


def build_in_repository(root: Path, config: Config, *, check: bool, say: Callable[[str], None]) -> int:
    """Write all generated files under ``root``, or only compare; return the exit code."""
    if not (root / "pyproject.toml").exists():
        say(f"{root} is not the repository root: it has no pyproject.toml; give it with --root")
        return 2
    wanted = generate.files(config)
    if check:
        return _compare(root, wanted, say)
    for path in generate.write(root, wanted):
        say(str(path))
    generate.remove_leftovers(root, wanted)
    return 0


def _compare(root: Path, wanted: dict[Path, str], say: Callable[[str], None]) -> int:
    gone = generate.leftovers(root, wanted)
    for path in gone:
        say(f"{path}: not generated any more")
    if generate.check(root, wanted, say) and not gone:
        return 0
    say("stale: run `python -m hisparse_dashboards` and commit what it writes")
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
