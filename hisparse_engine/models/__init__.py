"""DSA architectures over shared layers, and the checkpoints they load from."""
