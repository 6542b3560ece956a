"""Snapshots as lines of styled text, for a width and a height. Pure: no terminal, no clock. Needs ``rich``."""
