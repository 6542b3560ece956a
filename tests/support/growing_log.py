"""An SGLang log that grows: decode lines with the split as release 0.5.23 formats them, as long as a ``with`` block lasts.

Besides, the lines that make each counter of the sidecar move: a start, prefills, a retraction, failed allocations, and one
line that the parser does not understand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

HOST_CAPACITY = 400_000
DEVICE_TOKENS = 16_576
WAITING = 15
RUNNING = 22
OTHERS = (
    "The server is fired up and ready to roll!",
    "Prefill batch, #new-seq: 1, #new-token: 512, #cached-token: 128, token usage: 0.09, #running-req: 22, #queue-req: 15, #pending-token: 0, cuda graph: False, input throughput (token/s): 800.25",
    "KV cache pool is full. Retract requests. #retracted_reqs: 1, #new_token_ratio: 0.52 -> 0.99",
    "HiSparse: host mem pool alloc failed for 16 host pages",
    "HiSparse: alloc_device_buffer failed for req 7f3a",
    "Decode batch, #running-req: 22, #gpu token: 165",
)


def decode_line(n: int) -> str:
    """Return the ``n``-th decode record: the host pool fills by 40 tokens a line, from 60 %."""
    host = min(int(0.6 * HOST_CAPACITY) + 40 * n, HOST_CAPACITY)
    return (
        f"Decode batch, #running-req: {RUNNING}, #gpu token: {DEVICE_TOKENS}, gpu token usage: 0.83, #cpu token: {host}, "
        f"cpu token usage: {host / HOST_CAPACITY:.2f}, cuda graph: True, gen throughput (token/s): 892.66, "
        f"#queue-req: {WAITING}"
    )


def plain_line(n: int) -> str:
    """Return the ``n``-th decode record of a rank without the split."""
    return (
        f"Decode batch, #running-req: 5, #token: {20_800 + n}, token usage: 0.29, cuda graph: True, "
        "gen throughput (token/s): 144.95, #queue-req: 0"
    )


@contextmanager
def growing(path: Path, interval: float = 0.1) -> Iterator[None]:
    """Append lines of DP rank 0 and 1 with the split, and of rank 2 without one, every ``interval``."""
    stop = threading.Event()

    def write(log: object, rank: int, text: str) -> None:
        stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        print(f"[{stamp} DP{rank} TP0] {text}", file=log, flush=True)  # type: ignore[call-overload]

    def loop() -> None:
        with path.open("a") as log:
            n = 0
            while not stop.wait(interval):
                for rank in (0, 1):
                    write(log, rank, decode_line(n))
                    write(log, rank, OTHERS[n % len(OTHERS)])
                write(log, 2, plain_line(n))
                n += 1

    thread = threading.Thread(target=loop, name="growing-log")
    path.touch()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
