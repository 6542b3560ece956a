"""Errors that a person's input can cause. Each message names the input, the reason and the remedy.

A broken invariant of ours is an ``AssertionError``, never one of these.
"""

from __future__ import annotations


class HiSparseError(Exception):
    """Something a person gave cannot be used; the message is one sentence that can be shown as it is."""


class ConfigError(HiSparseError):
    """A setting (flag, environment variable, YAML key) is unknown, contradictory or out of range."""


class CheckpointError(HiSparseError):
    """A checkpoint folder, or a file in it, cannot be used as it is."""


class CapacityError(HiSparseError):
    """A request or a configuration needs more slots or memory than there are."""


class InvariantError(AssertionError):
    """An account of ours does not add up: a bug here, not a person's mistake."""
