"""Shared by all tests."""

import os

# Models here are tiny: more threads would only wait for each other, and for other programs on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
