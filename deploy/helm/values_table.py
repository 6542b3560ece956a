"""The table of values in the chart's README, made from values.yaml: ``values_table.py [--check]``.

A value's description is the comment that begins with ``# --`` right above it. Everything below such a value belongs to
it; a map without one has a row for each of its values.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "hisparse"
BEGIN, END = "<!-- values: made by ../values_table.py -->", "<!-- end of values -->"
Row = tuple[str, str, str]


def rows(text: str) -> list[Row]:
    """Return key, default and description of every value; ``ValueError`` names a value without a description."""
    return list(_rows(yaml.compose(text), text.splitlines(), ""))


def _rows(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Row]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        found = re.fullmatch(r"\s*# -- (.+)", lines[key.start_mark.line - 1])
        if found:
            default = yaml.SafeLoader("").construct_document(value)
            yield path, json.dumps(default), found[1]
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _rows(value, lines, path + ".")
        else:
            raise ValueError(
                f"values.yaml:{key.start_mark.line + 1}: {path} has no description above it (# -- ...)"
            )


def table(text: str) -> str:
    """Return the table in Markdown."""
    body = (f"| `{key}` | `{_cell(default)}` | {_cell(what)} |" for key, default, what in rows(text))
    return "\n".join(["| value | default | what it is for |", "| --- | --- | --- |", *body])


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def updated(readme: str, values: str) -> str:
    """Return the README with the table of ``values`` between its two marks."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(values)}\n{END}{rest.split(END)[1]}"


def main(arguments: list[str]) -> int:
    """Write the table, or tell with ``--check`` whether it is stale."""
    readme = CHART / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = updated(text, (CHART / "values.yaml").read_text(encoding="utf-8"))
    if "--check" in arguments:
        return 0 if wanted == text else 1
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
