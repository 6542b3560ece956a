"""One module a subcommand of ``hisparse``; each has its click command in ``command``."""
