"""``python -m hisparse_engine`` is ``hisparse``."""

from hisparse_engine.cli import main

main(prog_name="hisparse")
