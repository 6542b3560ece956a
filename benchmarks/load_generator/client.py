"""One question to the server: through the official client, its stream read piece by piece into a record.

The client sends, authenticates and tells errors apart; the stream's events are parsed here, because its objects for
each of them cost twice the CPU time of everything else (see ``benchmarks/README.md``).
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
import openai

from benchmarks.load_generator.records import Outcome, Record
from benchmarks.load_generator.settings import Asking, LoadError
from benchmarks.load_generator.sse import EventParser
from benchmarks.load_generator.texts import CharacterWriter, Prompt, TokenWriter, Writer

_REFUSALS = (429, 503)
_CALIBRATION_TOKENS = 400
_LONGEST_WAIT = 60.0


class StreamError(Exception):
    """The server said within a stream that there will be no answer, or said nothing that can be read."""


class Client:
    """Asks one model of one server. ``clock`` gives the seconds since the run began."""

    def __init__(
        self, url: str, model: str, asking: Asking, writer: Writer, api_key: str | None = None
    ) -> None:
        self.model, self.asking, self.writer = model, asking, writer
        self._openai = openai.AsyncOpenAI(
            base_url=url, api_key=api_key or "none", max_retries=0, timeout=None,
            http_client=openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=None)),
        )  # fmt: skip
        self._zero = time.monotonic()

    def start_clock(self) -> None:
        """Begin the run's time."""
        self._zero = time.monotonic()

    def clock(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._zero

    async def close(self) -> None:
        """Close every connection."""
        await self._openai.close()

    async def find_model(self) -> str:
        """Return the model that is asked; the server's first one unless one was named."""
        if not self.model:
            try:
                models = [model.id async for model in self._openai.models.list()]
            except openai.OpenAIError as error:
                raise LoadError(f"{self._openai.base_url}models: {_what(error)}; check --url") from None
            if not models:
                raise LoadError(f"{self._openai.base_url}models: names no model; give one with --model")
            self.model = models[0]
        return self.model

    async def ask(self, record: Record, words: dict[str, Any], seed: int) -> Prompt:
        """Fill in the record; return the answer in the form in which it can be said again."""
        record.sent = self.clock()
        answer: Prompt = ""
        while True:
            record.outcome = Outcome.CUT
            try:
                async with asyncio.timeout(self.asking.timeout):
                    answer = await self._stream(record, words, seed)
            except openai.APIStatusError as error:
                if await self._again(record, error):
                    continue
            except TimeoutError:
                record.message = f"no end within {self.asking.timeout:g} s"
            except StreamError as error:
                record.outcome, record.message = Outcome.ERROR, str(error)
            except (openai.OpenAIError, httpx2.HTTPError) as error:
                record.outcome = Outcome.CUT if record.tokens_at else Outcome.ERROR
                record.message = _what(error)
            finally:
                record.ended = self.clock()
            return answer

    async def _again(self, record: Record, error: openai.APIStatusError) -> bool:
        """Note a refusal or an error; return whether to send the request again, the time for that having come."""
        record.message = f"{error.status_code}: {error.message}"
        if error.status_code not in _REFUSALS:
            record.outcome = Outcome.ERROR if error.status_code >= 500 else Outcome.REJECTED
            return False
        record.outcome = Outcome.REFUSED
        record.refused_at.append(self.clock())
        record.retry_after = _seconds(error.response.headers.get("Retry-After"))
        if len(record.refused_at) > self.asking.retries:
            return False
        await asyncio.sleep(min(record.retry_after or 1.0, _LONGEST_WAIT))
        return True

    async def _stream(self, record: Record, words: dict[str, Any], seed: int) -> Prompt:
        parser, reading = EventParser(), _Reading(record, self.clock)
        async with self._create(words, record.limit, seed) as response:
            async for piece in response.iter_bytes():
                for data in parser.feed(piece):
                    reading.take(data)
        reading.finish()
        return (
            reading.ids
            if isinstance(self.writer, TokenWriter) and reading.ids
            else self.writer.take(reading.text)
        )

    def _create(self, words: dict[str, Any], limit: int, seed: int) -> Any:
        asking = self.asking
        chat = asking.api == "chat"
        endpoint = self._openai.chat.completions if chat else self._openai.completions
        beyond = {"ignore_eos": True} if asking.ignore_eos and asking.stop is None else {}
        if isinstance(self.writer, TokenWriter):
            beyond["return_token_ids"] = True
        return endpoint.with_streaming_response.create(  # type: ignore[call-overload]
            model=self.model, **words, max_tokens=limit, temperature=asking.temperature, seed=seed, stream=True,
            stream_options={"include_usage": True}, extra_body=beyond,
            **({} if asking.stop is None else {"stop": asking.stop}),
        )  # fmt: skip

    async def calibrate(self) -> None:
        """Let the server count a text, so that later ones have the length in tokens that is asked for."""
        if not isinstance(self.writer, CharacterWriter):
            return
        text = self.writer.write(_CALIBRATION_TOKENS, random.Random("calibration"))
        words = (
            {"prompt": text}
            if self.asking.api == "completions"
            else {"messages": [{"role": "user", "content": text}]}
        )
        record = Record(-1, -1, 0, 0.0, 1)
        await self.ask(record, words, 0)
        if record.outcome is not Outcome.OK:
            raise LoadError(f"{self._openai.base_url}: the first request failed ({record.message})")
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


def _seconds(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None  # a date: not worth a clock that may differ


def _what(error: Exception) -> str:
    cause = error.__cause__
    return f"{error}" + (f" ({cause})" if cause is not None and str(cause) else "")
