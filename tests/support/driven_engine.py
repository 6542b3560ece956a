"""The engine itself as a process that a test drives by words on its standard input: fill, work, drain.

    python -m tests.support.driven_engine STATS_DIR CACHE_DIR TP_RANK

``fill`` takes nearly the whole host pool and keeps it, ``work`` decodes in a corner of it, ``drain`` aborts everything.
It ends with its input.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from pathlib import Path

import torch

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.demo.texts import prompts
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.request import Request, SamplingParams
from hisparse_engine.tokenizer import Tokenizer
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity

HOST_TOKENS = 2_000
FILL = (1_940, 60)
"""Prompt and answer that make the pool 97 % full at once, and for long."""
WORK = (100, 500)
PAUSE_SECONDS = 0.25
"""Between steps, so that a full pool stays full for a while."""


class Driver:
    """Turns words into requests; one thread reads, the engine's own thread obeys between two steps."""

    def __init__(self, engine: Engine, text: list[int]) -> None:
        self._engine, self._text = engine, text
        self._words: queue.Queue[str] = queue.Queue()
        self._open: list[Request] = []
        threading.Thread(target=self._read, daemon=True).start()

    def run(self) -> None:
        """Obey until the input ends."""
        while (word := self._next_word()) != "end":
            if word == "drain":
                for request in self._open:
                    self._engine.abort(request)
            elif word:
                length, new = {"fill": FILL, "work": WORK}[word]
                params = SamplingParams(new, ignore_eos=True)
                self._open.append(self._engine.add_request(self._text[:length], params))
            self._engine.step()

    def _next_word(self) -> str:
        try:
            return self._words.get(timeout=PAUSE_SECONDS)
        except queue.Empty:
            return ""

    def _read(self) -> None:
        for line in itertools.chain(sys.stdin, ["end"]):
            self._words.put(line.strip())


def main(stats_dir: Path, cache: Path, tp_rank: int) -> None:
    """Serve the words until they end."""
    torch.set_num_threads(1)
    folder = ensure_demo_checkpoint(cache)
    config = EngineConfig.parse(
        hisparse=HiSparseConfig.parse(device_buffer_size=150, host_tokens=HOST_TOKENS),
        max_running_requests=4,
        prefill_chunk_size=512,
    )
    with Checkpoint.open(folder) as checkpoint:
        model = load(checkpoint, config)
    identity = EngineIdentity(engine_name="test", model_name="demo", tp_rank=tp_rank, mode=config.mode)
    with Recorder(stats_dir, identity) as recorder:
        engine = Engine(model, config, observers=[recorder.publish])
        Driver(engine, next(prompts(Tokenizer.open(folder).encode, FILL[0]))).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
