"""The stats page between real processes: no torn snapshot, and no garbage after a SIGKILL at any moment."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import struct
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Queue

import pytest

from hisparse_metrics.page import PageWriter
from hisparse_metrics.page_claim import page_file_name
from hisparse_metrics.page_layout import BODY
from hisparse_metrics.page_reader import PageReader, read_page
from hisparse_metrics.stats import EngineIdentity

SPAWN = multiprocessing.get_context("spawn")
IDENTITY = EngineIdentity(engine_name="writer")
NUM_READERS = 3
SNAPSHOTS_PER_READER = 340_000
READY_SECONDS = 30.0


def fill(writer: PageWriter, value: int) -> None:
    """Give every cell the same value, so that any mixture of two commits shows."""
    writer.slot.raw[16:] = struct.pack("d", value) * len(writer.cells)


def write_until(folder: Path, stop: Event | None) -> None:
    """Commit step after step; each cell of step n holds n."""
    writer = PageWriter(folder, IDENTITY, start_time=1.0)
    step = 0
    while stop is None or not (step % 512 == 0 and stop.is_set()):
        step += 1
        fill(writer, step)
        writer.commit()


class DyingWriter(PageWriter):
    """A writer that is killed when half of its fifth step is copied."""

    def _copy_to(self, slot: memoryview) -> None:
        if self._step == 4:
            half = len(slot) // 2
            slot[:half] = self.slot.raw[:half]
            os.kill(os.getpid(), signal.SIGKILL)
        super()._copy_to(slot)


def write_and_die(folder: Path) -> None:
    """Commit four steps and die within the fifth."""
    writer = DyingWriter(folder, IDENTITY, start_time=1.0)
    for step in range(1, 6):
        fill(writer, step)
        writer.commit()


def count_torn(path: Path, results: Queue[tuple[int, int, int]]) -> None:
    """Take snapshots; put how many were torn, how many went back in time, and how many differed."""
    torn = backwards = distinct = 0
    last = -1
    with PageReader(path) as page:
        for _ in range(SNAPSHOTS_PER_READER):
            step, cells = page.cells()
            torn += cells.count(float(step)) != len(cells)
            backwards += step < last
            distinct += step != last
            last = step
    results.put((torn, backwards, distinct))


def page_in(folder: Path) -> Path:
    return folder / page_file_name(IDENTITY)


def wait_for_step(path: Path, step: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (path.exists() and read_page(path).step >= step):
        assert time.monotonic() < deadline, "the writer did not start"


def killed_at_random(folder: Path, rng: random.Random) -> SpawnProcess:
    writer = SPAWN.Process(target=write_until, args=(folder, None))
    writer.start()
    wait_for_step(page_in(folder), rng.randrange(1, 2000))
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    return writer


@pytest.mark.slow
def test_a_million_snapshots_by_several_processes_and_none_torn(tmp_path: Path) -> None:
    stop, results = SPAWN.Event(), SPAWN.Queue()
    writer = SPAWN.Process(target=write_until, args=(tmp_path, stop))
    writer.start()
    try:
        wait_for_step(page_in(tmp_path), 1)
        readers = [
            SPAWN.Process(target=count_torn, args=(page_in(tmp_path), results)) for _ in range(NUM_READERS)
        ]
        for reader in readers:
            reader.start()
        counts = [results.get(timeout=300) for _ in readers]
    finally:
        stop.set()
        writer.join(30)
    assert NUM_READERS * SNAPSHOTS_PER_READER >= 1_000_000
    assert [(torn, backwards) for torn, backwards, _ in counts] == [(0, 0)] * NUM_READERS
    assert all(distinct > SNAPSHOTS_PER_READER // 2000 for _, _, distinct in counts), (
        "the page must have moved"
    )
    assert writer.exitcode == 0


def test_a_writer_killed_in_the_middle_of_a_step_leaves_the_step_before(tmp_path: Path) -> None:
    writer = SPAWN.Process(target=write_and_die, args=(tmp_path,))
    writer.start()
    writer.join(READY_SECONDS)
    assert writer.exitcode == -signal.SIGKILL
    sequence = struct.unpack_from("=Q", page_in(tmp_path).read_bytes(), BODY)[0]
    assert sequence % 2 == 1, "the writer must have died inside the odd window"
    page = read_page(page_in(tmp_path))
    assert (page.alive, page.step) == (False, 4)
    assert set(page.cells) == {4.0}


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_is_down_and_leaves_a_whole_step(tmp_path: Path) -> None:
    rng = random.Random(2)
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        writer = killed_at_random(folder, rng)
        page = read_page(page_in(folder))
        assert page.header.pid == writer.pid
        assert not page.alive
        assert set(page.cells) == {float(page.step)}


def test_a_dead_writers_page_is_taken_over_while_a_reader_has_it_open(tmp_path: Path) -> None:
    killed_at_random(tmp_path, random.Random(3))
    with PageReader(page_in(tmp_path)) as old:
        before = old.snapshot()
        writer = PageWriter(tmp_path, IDENTITY, start_time=2.0)
        fill(writer, -1)
        writer.commit()
        assert old.snapshot() == before
    assert set(read_page(page_in(tmp_path)).cells) == {-1.0}
