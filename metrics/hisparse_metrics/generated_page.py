"""A page of documentation that is generated: written, or compared with what would be written. Knows no page."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path


def run(
    arguments: Sequence[str] | None, page: str, default: Path, module: str, description: str | None
) -> int:
    """Write ``page`` to the file that ``arguments`` name, or with ``--check`` compare it; return the exit status.

    ``module`` is what ``python -m`` runs; ``default`` is where the page is committed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff when stale")
    parser.add_argument("file", nargs="?", type=Path, default=default)
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(page, encoding="utf-8")
        return 0
    found = options.file.read_text(encoding="utf-8") if options.file.exists() else ""
    stale, fresh = found.splitlines(keepends=True), page.splitlines(keepends=True)
    difference = "".join(difflib.unified_diff(stale, fresh, str(options.file), f"from {module}"))
    sys.stdout.write(difference)
    return 1 if difference else 0
