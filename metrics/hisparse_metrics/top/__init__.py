"""``hisparse top``: the split in a terminal. Read → derive → draw; each stage is plain values in, plain values out."""
