"""Starting the engine process and ending it: a child with a socket, and no way for it to be left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

from hisparse_engine.server.engine_client import EngineClient
from hisparse_engine.server.messages import Start

_MODULE = "hisparse_engine.server.engine_process"
_LAST_WORDS_SECONDS = 5.0


class EngineProcess:
    """The child, for the length of an ``async with`` block. For the main thread: the child dies with its creator's."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        self._socket = ours

    async def __aenter__(self) -> Self:
        """Connect."""
        self.client = EngineClient(*await asyncio.open_connection(sock=self._socket))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, whatever it does, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def start(self, start: Start) -> None:
        """Tell it what to load."""
        self.client.send(start)

    async def how_it_ended(self) -> str:
        """Wait for the end of a process whose socket is closed; say in words how it ended."""
        try:
            code = await asyncio.to_thread(self._process.wait, _LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection without ending"
        if code < 0:
            return f"was killed by signal {-code}"
        return f"ended with exit code {code}"
