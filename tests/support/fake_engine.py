"""An engine that computes nothing: it publishes made-up but consistent steps through the real recorder.

For tests of what comes after the recorder. Every figure of step ``n`` is a plain function of ``n``, so that a test can
say what a query must return.

    python -m tests.support.fake_engine STATS_DIR PORT     steps, logs every step to stdout, serves /metrics
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.decode_logger import DecodeLogger
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, EngineIdentity, Levels, StepStats, Totals

DEVICE_CAPACITY = 1_000
HOST_CAPACITY = 10_000
HITS_PER_STEP = 90
MISSES_PER_STEP = 10
BYTES_PER_ROW = 1_152
RUNNING = 4
DURATIONS = (
    Duration("decode_step_seconds", 0.012),
    Duration("inter_token_latency_seconds", 0.012, RUNNING),
    Duration("swap_in_seconds", 0.0015),
    Duration("time_to_first_token_seconds", 0.25),
    Duration("request_duration_seconds", 1.5),
)
"""What every step observes; each lies strictly inside a bucket."""


def busy_step(n: int, timestamp: float) -> StepStats:
    """Return the ``n``-th step of a hierarchical engine under steady load; its host pool fills as it goes."""
    levels = Levels(
        device_tokens=800,
        device_token_capacity=DEVICE_CAPACITY,
        device_tokens_spare=300,
        host_tokens=min(2_000 + RUNNING * n, HOST_CAPACITY),
        host_token_capacity=HOST_CAPACITY,
        host_tokens_reserved=1_000,
        index_tokens=min(2_000 + RUNNING * n, HOST_CAPACITY),
        index_token_capacity=HOST_CAPACITY,
        running_requests=RUNNING,
        waiting_requests=2,
        staging_requests=1,
    )
    totals = Totals(
        decode_steps=n,
        prompt_tokens=100 * n,
        generation_tokens=RUNNING * n,
        swap_in_lookups=(HITS_PER_STEP + MISSES_PER_STEP) * n,
        swap_in_hits=HITS_PER_STEP * n,
        swap_in_misses=MISSES_PER_STEP * n,
        evictions=MISSES_PER_STEP * n,
        host_to_device_bytes=BYTES_PER_ROW * MISSES_PER_STEP * n,
        device_to_host_bytes=BYTES_PER_ROW * RUNNING * n,
        requests_stop=n // 10,
        verify_checks=n,
    )
    return StepStats(timestamp, True, levels, totals, DURATIONS)


def idle_resident_step(timestamp: float) -> StepStats:
    """Return the state of a resident engine to which nobody talks: no host tier, no work."""
    return StepStats(timestamp, False, Levels(device_token_capacity=DEVICE_CAPACITY), Totals())


@contextmanager
def stepping(
    stats_dir: Path, identity: EngineIdentity, interval: float = 0.02, first: int = 1
) -> Iterator[None]:
    """Publish a busy step every ``interval`` seconds from a thread, from the ``first`` on, while a ``with`` block lasts."""
    stop = threading.Event()

    def loop() -> None:
        with Recorder(stats_dir, identity) as recorder:
            n = first
            while not stop.wait(interval):
                recorder.publish(busy_step(n, time.time()))
                n += 1

    thread = threading.Thread(target=loop, name="fake-engine")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main(stats_dir: Path, port: int) -> None:
    """Step until the process is terminated."""
    exporter = Exporter(PageCollector(PageFolder(stats_dir)), port=port)
    logger = DecodeLogger(lambda line: print(line, flush=True), interval=1)
    with Recorder(stats_dir, EngineIdentity(model_name="tiny")) as recorder, exporter:
        n = 0
        while True:
            n += 1
            step = busy_step(n, time.time())
            recorder.publish(step)
            logger.maybe_log(step)
            time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
