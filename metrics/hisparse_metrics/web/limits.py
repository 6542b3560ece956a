"""How much of the endpoint its clients may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on connections and requests; seconds are totals, so a client that trickles gains nothing."""

    max_connections: int = 256
    max_head_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    """TLS handshake and request head together."""
    idle_seconds: float = 120.0
    """Between two requests of a connection; longer than the usual scrape intervals."""
    write_seconds: float = 10.0
    """Prometheus' own default scrape timeout."""
    write_grace_seconds: float = 1.0
    """How long a client may take over an answer before its place can be given to somebody else."""
