"""The screens that the drawing is held to, one file each in ``golden/``.

python -m tests.unit.top.golden_screens      writes them anew: read the diff before you commit it
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from hisparse_metrics.top.draw.screen import screen
from hisparse_metrics.top.draw.theme import ASCII, Theme
from hisparse_metrics.top.look import Look
from hisparse_metrics.top.state import State
from hisparse_metrics.top.view import Snapshot
from tests.unit.top.support import BUSY, DOWN, KEY, MANY, RATIOS_ONLY, STUCK, VOCABULARY, snapshot

FOLDER = Path(__file__).parent / "golden"
THREE = snapshot(BUSY, DOWN, STUCK)
LOST = "cannot read http://gpu-7:9477/metrics: connection refused; nothing listens there"
THEME = Theme(VOCABULARY)

SCREENS: dict[str, tuple[Snapshot, Look, int, int, Theme]] = {
    "three_ranks_40": (THREE, Look(), 40, 30, THEME),
    "three_ranks_80": (THREE, Look(), 80, 24, THEME),
    "three_ranks_120": (THREE, Look(), 120, 36, THEME),
    "three_ranks_200": (THREE, Look(), 200, 40, THEME),
    "one_rank_80": (snapshot(BUSY), Look(), 80, 24, THEME),
    "vllm_80": (snapshot(RATIOS_ONLY), Look(), 80, 16, THEME),
    "many_ranks_80": (MANY, Look(cursor=KEY._replace(dp_rank="7")), 80, 24, THEME),
    "unreachable_60": (
        snapshot(replace(BUSY, state=State.UNREAD), trouble=LOST, read_ago=12.3),
        Look(),
        60,
        20,
        THEME,
    ),
    "never_reached_40": (snapshot(trouble=LOST, read_ago=None), Look(), 40, 10, THEME),
    "ascii_80": (THREE, Look(paused=True), 80, 24, Theme(VOCABULARY, ASCII)),
    "help_80": (THREE, Look(help=True), 80, 24, THEME),
}


def drawn(name: str) -> str:
    """Return a screen as text, as it would be drawn at noon in Greenwich."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        lines = screen(*SCREENS[name])
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    for name in SCREENS:
        (FOLDER / f"{name}.txt").write_text(drawn(name))
