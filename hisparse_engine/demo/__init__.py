"""The embedded default: a small checkpoint made on the spot, and real text to feed it."""
