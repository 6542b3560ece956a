"""A consumer in a process of its own, to be killed: counts records, commits, and prints a line for each step.

Run as ``python -m tests.property.follow.counting_process LOG STATE``. A line on its stdin lets it go one step on.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.state import StateFile
from hisparse_metrics.follow.watch import FileSource


def main(log: str, state: str) -> None:
    options = FollowOptions(from_start=True, scan_seconds=0.0)
    follower = Follower([FileSource("log", [log], options=options)], StateFile(Path(state)))
    counted = Counter({key: int(str(count)) for key, count in follower.extra.items()})
    for _ in sys.stdin:
        for batch in follower.poll(100):
            counted.update(line.decode() for line in batch.lines)
            print("counted", flush=True)
        follower.commit(counted)
        print("committed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
