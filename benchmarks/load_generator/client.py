"""One question to the server, and its stream read piece by piece into a record.

Plain HTTP instead of the official client, whose objects for each event and checks of each token id of a prompt would
cost more CPU time than everything else here (see ``benchmarks/README.md``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2

from benchmarks.load_generator.records import Outcome, Record
from benchmarks.load_generator.settings import Asking, LoadError
from benchmarks.load_generator.sse import EventParser
from benchmarks.load_generator.talk import new_talk
from benchmarks.load_generator.texts import CharacterWriter, Prompt, TokenWriter, Writer

_REFUSALS = (429, 503)
_CALIBRATION_TOKENS = 400
_LOOK_SECONDS = 30.0
_LONGEST_WAIT = 60.0


class StreamError(Exception):
    """The server said within a stream that there will be no answer, or said nothing that can be read."""


class StatusError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, message: str, retry_after: float | None) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.retry_after = status, retry_after


class Client:
    """Asks one model of one server. ``clock`` gives the seconds since the run began."""

    def __init__(
        self, url: str, model: str, asking: Asking, writer: Writer, api_key: str | None = None
    ) -> None:
        self.model, self.asking, self.writer = model, asking, writer
        self.url = url.rstrip("/")
        self._http = httpx2.AsyncClient(
            timeout=None,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
        )
        self._zero = time.monotonic()

    def start_clock(self) -> None:
        """Begin the run's time."""
        self._zero = time.monotonic()

    def clock(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._zero

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def find_model(self) -> str:
        """Return the model that is asked; the server's first one unless one was named."""
        if not self.model:
            try:
                answer = await self._http.get(f"{self.url}/models", timeout=_LOOK_SECONDS)
                self.model = str(answer.raise_for_status().json()["data"][0]["id"])
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, LookupError, TypeError) as error:
                raise LoadError(
                    f"{self.url}/models: names no model ({_what(error)}); check --url, or name one with --model"
                ) from None
        return self.model

    async def ask(self, record: Record, words: dict[str, Any], seed: int) -> Prompt:
        """Fill in the record; return the answer in the form in which it can be said again, if it is complete."""
        record.sent = self.clock()
        while True:
            record.outcome = Outcome.CUT
            try:
                async with asyncio.timeout(self.asking.timeout):
                    return await self._stream(record, self._body(words, record.limit, seed))
            except StatusError as error:
                if await self._again(record, error):
                    continue
            except TimeoutError:
                record.message = f"no end within {self.asking.timeout:g} s"
            except StreamError as error:
                record.outcome, record.message = Outcome.ERROR, str(error)
            except httpx2.HTTPError as error:
                record.outcome = Outcome.CUT if record.tokens_at else Outcome.ERROR
                record.message = _what(error)
            finally:
                record.ended = self.clock()
            return ""

    async def _again(self, record: Record, error: StatusError) -> bool:
        """Note a refusal or an error; return whether to send the request again, the time for that having come."""
        record.message = str(error)
        if error.status not in _REFUSALS:
            record.outcome = Outcome.ERROR if error.status >= 500 else Outcome.REJECTED
            return False
        record.outcome = Outcome.REFUSED
        record.refused_at.append(self.clock())
        record.retry_after = error.retry_after
        if len(record.refused_at) > self.asking.retries:
            return False
        await asyncio.sleep(min(1.0 if error.retry_after is None else error.retry_after, _LONGEST_WAIT))
        return True

    async def _stream(self, record: Record, body: dict[str, Any]) -> Prompt:
        path = "chat/completions" if self.asking.api == "chat" else "completions"
        parser, reading = EventParser(), _Reading(record, self.clock)
        async with self._http.stream("POST", f"{self.url}/{path}", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise _status_error(response)
            async for piece in response.aiter_bytes():
                for data in parser.feed(piece):
                    reading.take(data)
        reading.finish()
        return (
            reading.ids
            if isinstance(self.writer, TokenWriter) and reading.ids
            else self.writer.take(reading.text)
        )

    def _body(self, words: dict[str, Any], limit: int, seed: int) -> dict[str, Any]:
        asking = self.asking
        body = {
            "model": self.model, **words, "max_tokens": limit, "temperature": asking.temperature, "seed": seed,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if asking.stop is not None:
            body["stop"] = asking.stop
        elif asking.ignore_eos:
            body["ignore_eos"] = True
        if isinstance(self.writer, TokenWriter):
            body["return_token_ids"] = True
        return body

    async def calibrate(self) -> None:
        """Let the server count a text, so that later ones have the length in tokens that is asked for."""
        if not isinstance(self.writer, CharacterWriter):
            return
        text = self.writer.write(_CALIBRATION_TOKENS, random.Random("calibration"))
        record = Record(number=-1, chat=-1, turn=0, scheduled=0.0, limit=1)
        await self.ask(record, new_talk(self.asking.api).ask(text), seed=0)
        if record.outcome is not Outcome.OK:
            raise LoadError(
                f"{self.url}: the first request failed ({record.message}); check --api, --model and the key"
            )
        if record.prompt_tokens:
            self.writer = CharacterWriter(len(text) / record.prompt_tokens)


class _Reading:
    """One stream: its events become a record's figures and an answer."""

    def __init__(self, record: Record, clock: Callable[[], float]) -> None:
        self._record, self._clock = record, clock
        self.text, self.ids = "", list[int]()
        self._complete = False

    def take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._complete = True
            return
        try:
            chunk = json.loads(data)
        except ValueError:
            raise StreamError(f"an event that is not JSON: {data[:80]!r}") from None
        if error := chunk.get("error"):
            raise StreamError(str(error.get("message", error) if isinstance(error, dict) else error))
        if usage := chunk.get("usage"):
            self._count(usage)
        for choice in chunk.get("choices", ()):
            self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        text = choice.get("text") or delta.get("content") or ""
        hidden = delta.get("reasoning_content") or delta.get("reasoning") or ""
        ids = choice.get("token_ids") or ()
        if text or hidden or ids:
            self._record.tokens_at.append(self._clock())
        self.text += text
        self.ids.extend(ids)
        if choice.get("finish_reason"):
            self._record.finish_reason = choice["finish_reason"]

    def _count(self, usage: dict[str, Any]) -> None:
        self._record.prompt_tokens = usage.get("prompt_tokens")
        self._record.output_tokens = usage.get("completion_tokens") or 0
        self._record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")

    def finish(self) -> None:
        record = self._record
        record.output_tokens = record.output_tokens or len(record.tokens_at)
        record.digest = hashlib.sha256(json.dumps(self.ids or self.text).encode()).hexdigest()[:16]
        if self._complete or record.finish_reason:
            record.outcome = Outcome.OK
            record.message = ""
        else:
            record.message = "the stream ended before the answer did"


def _status_error(response: httpx2.Response) -> StatusError:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):  # not in OpenAI's shape
        message = response.text[:200] or response.reason_phrase
    try:
        wait = float(response.headers.get("Retry-After", ""))
    except ValueError:
        wait = None  # none, or a date: not worth trusting its clock
    return StatusError(response.status_code, message, wait)


def _what(error: Exception) -> str:
    return str(error) or type(error).__name__
