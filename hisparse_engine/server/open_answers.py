"""The answers that are being made now, by id: for whoever wants to abort one, or to wait for all of them."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Callable

from hisparse_engine.server.answer import Answer
from hisparse_engine.server.errors import ApiError, aborted, bad_request

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_MAX_RETRY_SECONDS = 60
_NUM_REMEMBERED = 32


class OpenAnswers:
    """Registers answers from their submission to their end. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._answers: dict[str, Answer] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._clock = clock
        self._endings: deque[float] = deque(maxlen=_NUM_REMEMBERED)

    def __len__(self) -> int:
        return len(self._answers)

    def new_id(self, prefix: str, wanted: str | None) -> str:
        """Return the id that a client wants for its answer, or a new one."""
        if wanted is None:
            return prefix + secrets.token_hex(12)
        if not _ID.fullmatch(wanted):
            raise bad_request("X-Request-Id: must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -")
        return wanted

    def add(self, answer_id: str, answer: Answer) -> None:
        """Register an answer; :class:`ApiError` for an id that another one has."""
        if answer_id in self._answers:
            raise bad_request(f"X-Request-Id: {answer_id} is in use by a request that is still running")
        self._answers[answer_id] = answer
        self._empty.clear()

    def close(self, answer_id: str) -> None:
        """Close an answer and forget it; one that is not there was closed before."""
        answer = self._answers.pop(answer_id, None)
        if answer is not None:
            answer.close()
            self._endings.append(self._clock())
        if not self._answers:
            self._empty.set()

    def abort(self, answer_id: str) -> bool:
        """Abort an answer for a client that asks for it; False when it is not running."""
        answer = self._answers.get(answer_id)
        if answer is not None:
            answer.abort(aborted())
        return answer is not None

    def abort_all(self, error: ApiError) -> None:
        """Abort whatever is open, and tell its clients why."""
        for answer in self._answers.values():
            answer.abort(error)

    async def wait_until_empty(self) -> None:
        """Return when every answer has been sent, or given up."""
        await self._empty.wait()

    def retry_after(self) -> int:
        """Return in how many seconds a place in the queue is likely to be free: as often as answers ended lately."""
        if len(self._endings) < 2:
            return 1
        gap = (self._endings[-1] - self._endings[0]) / (len(self._endings) - 1)
        return min(_MAX_RETRY_SECONDS, max(1, round(gap)))
