"""The engine process: ``python -m hisparse_engine.server.engine_process FD PARENT``. Lives exactly as long as its front.

Signals that end a server are the front's business; this process follows the front. It ends when the front's end of
the wire closes, and the kernel ends it when the front dies, even in the middle of a step.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

from hisparse_engine import __version__
from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.engine import Engine
from hisparse_engine.errors import HiSparseError
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.plan.at_start import plan_at_start, print_at_start
from hisparse_engine.server import stderr
from hisparse_engine.server.channel import Channel, FrontGoneError
from hisparse_engine.server.engine_loop import EngineLoop
from hisparse_engine.server.messages import Failed, Ready, Start
from hisparse_metrics.decode_log import LogFormat
from hisparse_metrics.decode_logger import DecodeLogger
from hisparse_metrics.page_claim import PageInUseError
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity
from hisparse_metrics.stats_dir import StatsDirError, default_stats_dir

_PR_SET_PDEATHSIG = 1


def main(fd: int, parent: int) -> None:
    """Take the ``Start`` command from ``fd``, load, and serve until the front has no more use for this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with(parent)
    stderr.install()
    channel = Channel(socket.socket(fileno=fd))
    with contextlib.suppress(FrontGoneError):
        (start,) = channel.receive(wait=True)
        assert isinstance(start, Start)
        _serve(channel, start)


def _serve(channel: Channel, start: Start) -> None:
    with ExitStack() as resources:
        try:
            engine, stats_dir = _load(start, resources)
        except (HiSparseError, PageInUseError, StatsDirError) as error:
            channel.send(Failed(str(error)))
            channel.flush()
            return
        channel.send(_ready(engine, stats_dir))
        EngineLoop(engine, channel, max_waiting=start.max_waiting).run()


def _load(start: Start, resources: ExitStack) -> tuple[Engine, Path]:
    """Claim the stats page first: a name that is taken should not cost a model load."""
    tiers = HiSparseConfig.parse(**start.tier_fields)
    config = EngineConfig.parse(**start.engine_fields, hisparse=tiers)
    stats_dir = Path(start.stats_dir) if start.stats_dir else default_stats_dir()
    with Checkpoint.open(Path(start.model)) as checkpoint:
        identity = EngineIdentity(
            engine_name=start.engine_name,
            model_name=start.served_name,
            version=__version__,
            mode=config.mode,
            device=config.device,
            dtype=config.row_dtype_for(checkpoint.config.dtype),
        )
        recorder = resources.enter_context(Recorder(stats_dir, identity))
        plan = plan_at_start(config, checkpoint.config)
        model = load(checkpoint, config)
    logger = DecodeLogger(
        lambda line: print(line, file=sys.stderr),  # noqa: T201
        interval=config.decode_log_interval,
        log_format=LogFormat(config.log_format),
    )
    engine = Engine(model, config, observers=[recorder.publish, logger.maybe_log])
    engine.publish()
    print_at_start(plan)
    return engine, stats_dir


def _ready(engine: Engine, stats_dir: Path) -> Ready:
    sizes, model = engine.sizes, engine.model.config
    return Ready(
        max_model_len=model.max_position_embeddings,
        max_rows=_largest_request(engine),
        device_tokens=sizes.device_tokens,
        host_tokens=sizes.host_tokens,
        device_buffer_size=sizes.device_buffer_size,
        top_k=model.index_topk,
        stats_dir=str(stats_dir),
    )


def _largest_request(engine: Engine) -> int:
    """Return the most KV rows that a request alone in the engine could have; it needs ever more of every pool."""
    fits, too_many = 0, engine.model.config.max_position_embeddings + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if engine.coordinator.shortfall(middle) is None:
            fits = middle
        else:
            too_many = middle
    return fits


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its front dies; for a front that died before that, exit now."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux: the closed wire has to do
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
