"""Recording rules: from what each engine exposes to the one vocabulary that alerts and fleet views read.

One module an engine; :func:`every_engine` is what a rule file holds.
"""

from __future__ import annotations

from hisparse_dashboards.config import Config
from hisparse_dashboards.recording import derived, hisparse, sglang, vllm
from hisparse_dashboards.rules import Recording


def every_engine(config: Config) -> list[Recording]:
    """Return all recording rules, those of engines first: derived ones read what those recorded."""
    engines = {"hisparse": hisparse.rules(config), "sglang": sglang.rules(config), "vllm": vllm.rules(config)}
    named = [
        Recording(name, expr, {"engine": engine})
        for engine, exprs in engines.items()
        for name, expr in exprs.items()
    ]
    return [*named, *(Recording(name, expr) for name, expr in derived.rules(config).items())]
