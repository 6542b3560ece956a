"""The server's life: bind, load, serve, drain, exit. The only place that knows every part."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from hisparse_engine import __version__
from hisparse_engine.errors import HiSparseError
from hisparse_engine.server import stderr
from hisparse_engine.server.api_keys import read_keys
from hisparse_engine.server.app import make_app
from hisparse_engine.server.errors import shutting_down
from hisparse_engine.server.gate import Gate, Phase
from hisparse_engine.server.generation_api import Service
from hisparse_engine.server.host_check import is_loopback
from hisparse_engine.server.launch import EngineProcess
from hisparse_engine.server.messages import Failed, Ready, Start
from hisparse_engine.server.open_answers import OpenAnswers
from hisparse_engine.server.served_model import Limits, ServedModel
from hisparse_engine.server.waiting import first_of, unless
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.stats_dir import default_stats_dir
from hisparse_metrics.web.listen import open_listener, url_of

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FLUSH_SECONDS = 0.5
"""How long clients get to take the last bytes that were made for them."""
_STOP_SECONDS = 5.0
"""How long an engine without requests gets to end its step and say its last words."""


class ServerError(HiSparseError):
    """The server cannot start, or cannot go on."""


@dataclass(frozen=True)
class ServeOptions:
    """What ``hisparse serve`` was asked for, besides the engine's settings."""

    model: Path
    host: str
    port: int
    api_key_file: Path | None
    served_model_name: str | None
    max_waiting_requests: int
    drain_timeout: float
    max_body_bytes: int
    default_chat_tokens: int
    stats_dir: Path | None
    engine_name: str


def serve(options: ServeOptions, engine_fields: dict[str, Any], tier_fields: dict[str, Any]) -> None:
    """Serve until SIGTERM or SIGINT; :class:`ServerError` when the engine does not start or does not live.

    What costs nothing is checked before the model is loaded: keys, address, tokenizer and chat template.
    """
    stderr.install()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    keys = read_keys(options.api_key_file) if options.api_key_file else None
    name = options.served_model_name or options.model.resolve().name
    model = ServedModel.open(options.model, name, options.default_chat_tokens)
    start = Start(
        str(options.model), name, engine_fields, tier_fields,
        str(options.stats_dir) if options.stats_dir else None, options.engine_name,
        options.max_waiting_requests,
    )  # fmt: skip
    with open_listener(options.host, options.port) as listener:
        _warn_if_open_to_all(listener, keys)
        asyncio.run(_Server(options, model, keys, listener).run(start))


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: its own handling would close the listeners before the last answer is out."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Server:
    """One run: the HTTP server, the engine process, and what ends them."""

    def __init__(
        self, options: ServeOptions, model: ServedModel, keys: Sequence[str] | None, listener: socket.socket
    ) -> None:
        self._options, self._model, self._keys = options, model, keys
        self._listener = listener
        self._url = url_of(listener, options.host, tls=False)
        self._gate = Gate()
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()

    async def run(self, start: Start) -> None:
        """Serve from the first moment, at first only ``/health``; return after an end in good order."""
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        async with EngineProcess() as engine:
            answers = OpenAnswers(time.monotonic)
            service = Service(engine.client, self._model, self._gate, answers, self._options.max_body_bytes)
            http, serving = self._start_http(service)
            try:
                engine.start(start)
                await self._live(engine, answers)
            finally:
                http.should_exit, http.force_exit = True, self._gate.phase is not Phase.DRAINING
                await serving

    def _on_signal(self) -> None:
        (self._stop_at_once if self._stop.is_set() else self._stop).set()

    def _start_http(self, service: Service) -> tuple[uvicorn.Server, asyncio.Task[None]]:
        stats_dir = self._options.stats_dir or default_stats_dir()
        collector = PageCollector(PageFolder(stats_dir))
        app = make_app(service, collector, self._keys, on_loopback=_is_on_loopback(self._listener))
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
        )  # fmt: skip
        http = _Uvicorn(config)
        return http, asyncio.create_task(http.serve(sockets=[self._listener]))

    async def _live(self, engine: EngineProcess, answers: OpenAnswers) -> None:
        ready = await unless(self._stop, engine.client.first_event())
        if self._stop.is_set():
            return _say("Stopped before the engine was up.")
        if not isinstance(ready, Ready):
            raise ServerError(await _why_not_ready(engine, ready))
        self._model.limits = Limits(ready.max_model_len, ready.max_rows)
        self._gate.move_to(Phase.OPEN)
        self._welcome(ready)
        updates = asyncio.create_task(engine.client.run())
        await first_of(updates, self._stop)
        if not updates.done():
            await self._drain(engine, answers, updates)
        if engine.client.summary is not None:
            _say(engine.client.summary)
        elif updates.done():
            updates.result()
            await self._give_up(engine, answers)
        else:
            _say("The engine is in the middle of a step, which ends now.")
        return None

    async def _drain(self, engine: EngineProcess, answers: OpenAnswers, updates: asyncio.Task[None]) -> None:
        """Let running requests finish, as long as the timeout allows; a second signal ends the waiting."""
        self._gate.move_to(Phase.DRAINING)
        _say(
            f"Draining: {len(answers)} requests have {self._options.drain_timeout:g} s to finish; "
            "a second signal ends them now."
        )
        empty = asyncio.create_task(answers.wait_until_empty())
        await first_of(empty, updates, self._stop_at_once, timeout=self._options.drain_timeout)
        if len(answers) and not updates.done():
            _say(f"Aborting {len(answers)} requests that have not finished.")
            answers.abort_all(shutting_down("the server shut down before the request was finished"))
            await first_of(empty, timeout=_FLUSH_SECONDS)
        empty.cancel()
        engine.client.drain()
        await first_of(updates, self._stop_at_once, timeout=_STOP_SECONDS)

    async def _give_up(self, engine: EngineProcess, answers: OpenAnswers) -> None:
        """Go, because the engine is dead. Its requests have been told; their clients get a moment to read it."""
        self._gate.move_to(Phase.FAILED)
        await first_of(asyncio.create_task(answers.wait_until_empty()), timeout=_FLUSH_SECONDS)
        raise ServerError(
            f"the engine process {await engine.how_it_ended()}; its last words are above. Running requests got an "
            "error; start the server again"
        )

    def _welcome(self, ready: Ready) -> None:
        _say(
            f"HiSparse {__version__} serves {self._model.name} at {self._url}/v1\n"
            f"  device pool {ready.device_tokens} tokens · host pool {ready.host_tokens} tokens · hot buffer "
            f"{ready.device_buffer_size} · top-k {ready.top_k} · positions {ready.max_model_len}\n"
            f"  metrics   {self._url}/metrics\n"
            f"  health    {self._url}/health\n"
            f"  stats     {ready.stats_dir}"
        )


async def _why_not_ready(engine: EngineProcess, event: object) -> str:
    if isinstance(event, Failed):
        return event.message
    return f"the engine process {await engine.how_it_ended()} while it was starting; its last words are above"


def _warn_if_open_to_all(listener: socket.socket, keys: Sequence[str] | None) -> None:
    if keys is None and not _is_on_loopback(listener):
        _say(
            f"Warning: {listener.getsockname()[0]} can be reached from other machines and nobody needs a key; "
            "give --api-key-file, or --host 127.0.0.1"
        )


def _is_on_loopback(listener: socket.socket) -> bool:
    return is_loopback(str(listener.getsockname()[0]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
