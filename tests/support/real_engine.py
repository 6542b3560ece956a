"""The engine itself as a process to scrape: a small model decodes real text, every step is logged to stdout.

    python -m tests.support.real_engine STATS_DIR PORT CACHE_DIR

All prompts come at once and their answers last, so that after the prefill every published step is a decode step.
"""

from __future__ import annotations

import itertools
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
from hisparse_engine.request import SamplingParams
from hisparse_engine.tokenizer import Tokenizer
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.decode_logger import DecodeLogger
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity

NUM_REQUESTS = 4
NEW_TOKENS = 20_000
PAUSE_SECONDS = 0.02  # so that a scrape mostly finds the engine between two steps


def main(stats_dir: Path, port: int, cache: Path) -> None:
    """Serve until killed or through with all tokens."""
    torch.set_num_threads(1)
    folder = ensure_demo_checkpoint(cache)
    tiers = HiSparseConfig.parse(device_buffer_size=150, host_tokens=NUM_REQUESTS * (NEW_TOKENS + 400) + 777)
    config = EngineConfig.parse(hisparse=tiers, max_running_requests=NUM_REQUESTS - 1, verify_every=3)
    with Checkpoint.open(folder) as checkpoint:
        model = load(checkpoint, config)
    logger = DecodeLogger(lambda line: print(line, flush=True), interval=1)
    identity = EngineIdentity(engine_name="test", model_name="demo", mode=config.mode)
    with Recorder(stats_dir, identity) as recorder, Exporter(PageCollector(PageFolder(stats_dir)), port=port):
        engine = Engine(model, config, observers=[recorder.publish, logger.maybe_log])
        texts = prompts(Tokenizer.open(folder).encode, 400)
        for prompt in itertools.islice(texts, NUM_REQUESTS):  # the last one waits: one more than may run
            engine.add_request(prompt, SamplingParams(NEW_TOKENS, ignore_eos=True))
        pause = threading.Event()
        while engine.has_work:
            engine.step()
            pause.wait(PAUSE_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
