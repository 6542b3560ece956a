"""The ``hisparse`` command: parses, calls, prints. Every heavy import waits until its command runs."""

from __future__ import annotations

import click

from hisparse_engine import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="hisparse")
def main() -> None:
    """Decode with a two-tier KV cache, and see where every token is."""
