"""What becomes of a request, against a server that says what a test tells it to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.load_generator.client import Client
from benchmarks.load_generator.records import Outcome, Record
from benchmarks.load_generator.settings import Asking, LoadError
from benchmarks.load_generator.texts import CharacterWriter

Work = Callable[[Client], Awaitable[Any]]


class Script:
    """An HTTP server that gives the next answer to each request, and keeps the requests. None keeps silent."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0
        )
        body = await reader.readexactly(length)
        self.heads.append(head)
        self.bodies.append(json.loads(body) if body else None)
        answer = self.answers.pop(0)
        if answer is None:
            await reader.read()  # until the client leaves
        else:
            writer.write(answer)
        writer.close()

    def run(self, work: Work, **asking: Any) -> Any:
        async def all_of_it() -> Any:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            client = Client(f"http://127.0.0.1:{port}/v1", "m", Asking(**asking), CharacterWriter(), "sk-key")
            try:
                return await work(client)
            finally:
                await client.close()
                server.close()

        return asyncio.run(all_of_it())

    def ask(self, words: dict[str, Any] | None = None, **asking: Any) -> tuple[Record, Any]:
        record = Record(number=0, chat=0, turn=0, scheduled=0.0, limit=3)
        answer = self.run(lambda client: client.ask(record, words or {"prompt": "x"}, 7), **asking)
        return record, answer


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*chunks: Any) -> bytes:
    events = [b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in chunks]
    return http("200 OK", b"".join(events), "Content-Type: text/event-stream")


def error(status: str, *headers: str) -> bytes:
    return http(status, json.dumps({"error": {"message": "no room"}}).encode(), *headers)


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
}
DONE = b"[DONE]"
COMPLETE = stream(
    {"choices": [{"text": "a"}]},
    {"choices": [{"text": "", "finish_reason": None}]},
    {"choices": [{"text": "bc", "finish_reason": "length"}]},
    USAGE,
    DONE,
)
FULL = error("429 Too Many Requests", "Retry-After: 0")


def test_a_complete_answer() -> None:
    script = Script(COMPLETE)
    record, answer = script.ask({"prompt": "x"}, temperature=0.5)
    assert (record.outcome, record.message, record.finish_reason, answer) == (Outcome.OK, "", "length", "abc")
    assert (record.prompt_tokens, record.cached_tokens, record.output_tokens) == (9, 4, 3)
    assert len(record.tokens_at) == 2  # a piece without text is no token that anybody saw
    assert 0 < record.sent < record.tokens_at[0] <= record.tokens_at[1] <= record.ended
    assert script.heads[0].startswith("POST /v1/completions HTTP/1.1\r\n")
    assert "authorization: bearer sk-key" in script.heads[0].lower()
    assert script.bodies == [{
        "model": "m", "prompt": "x", "max_tokens": 3, "temperature": 0.5, "seed": 7, "stream": True,
        "stream_options": {"include_usage": True}, "ignore_eos": True,
    }]  # fmt: skip


def test_a_chat_with_hidden_thoughts() -> None:
    chunks = [{"choices": [{"delta": delta}]} for delta in (
        {"role": "assistant", "content": ""}, {"reasoning_content": "hm"}, {"content": "yes"},
    )]  # fmt: skip
    script = Script(stream(*chunks, DONE))
    record, answer = script.ask({"messages": []}, api="chat", stop="!", ignore_eos=True)
    assert (record.outcome, answer, len(record.tokens_at), record.output_tokens) == (Outcome.OK, "yes", 2, 2)
    assert script.heads[0].startswith("POST /v1/chat/completions ")
    assert script.bodies[0]["stop"] == "!"
    assert "ignore_eos" not in script.bodies[0]


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (FULL, Outcome.REFUSED, "429: no room"),
        (error("503 Service Unavailable"), Outcome.REFUSED, "503: no room"),
        (error("400 Bad Request"), Outcome.REJECTED, "400: no room"),
        (error("500 Internal Server Error"), Outcome.ERROR, "500: no room"),
        (http("502 Bad Gateway", b"<html>"), Outcome.ERROR, "502: <html>"),
        (stream({"choices": [{"text": "a"}]}, {"error": {"message": "gone"}}), Outcome.ERROR, "gone"),
        (stream(b"{not json"), Outcome.ERROR, "an event that is not JSON: b'{not json'"),
        (stream({"choices": [{"text": "a"}]}), Outcome.CUT, "the stream ended before the answer did"),
        (http("200 OK", b"", "Content-Length: 99"), Outcome.ERROR, "peer closed connection"),
        (b"", Outcome.ERROR, "disconnected"),
    ],
)
def test_other_ends(answer: bytes, outcome: Outcome, message: str) -> None:
    record, said = Script(answer).ask()
    assert (record.outcome, message in record.message) == (outcome, True), record.message
    assert record.ended > 0
    assert said == "" or outcome is Outcome.CUT


def test_nobody_listens_there() -> None:
    record = Record(number=0, chat=0, turn=0, scheduled=0.0, limit=3)

    async def ask() -> None:
        client = Client("http://127.0.0.1:9/v1", "m", Asking(), CharacterWriter())
        await client.ask(record, {"prompt": "x"}, 0)
        await client.close()

    asyncio.run(ask())
    assert record.outcome is Outcome.ERROR
    assert record.message


def test_a_server_that_keeps_silent_is_left() -> None:
    record, _ = Script(None).ask(timeout=0.05)
    assert (record.outcome, record.message) == (Outcome.CUT, "no end within 0.05 s")


def test_refused_requests_are_sent_again_as_often_as_wanted() -> None:
    record, answer = Script(FULL, FULL, COMPLETE).ask(retries=2)
    assert (record.outcome, answer, len(record.refused_at), record.message) == (Outcome.OK, "abc", 2, "")
    record, _ = Script(FULL, FULL).ask(retries=1)
    assert (record.outcome, len(record.refused_at), record.retry_after) == (Outcome.REFUSED, 2, 0.0)


def test_equal_answers_have_equal_digests() -> None:
    one, other = (
        Script(stream({"choices": [{"text": text}]}, DONE)).ask()[0].digest for text in ("abc", "abd")
    )
    assert Script(COMPLETE).ask()[0].digest == one != other


def models(*names: str) -> bytes:
    return http("200 OK", json.dumps({"data": [{"id": name} for name in names]}).encode())


def find(answer: bytes) -> str:
    async def work(client: Client) -> str:
        client.model = ""
        return await client.find_model()

    return str(Script(answer).run(work))


def test_the_first_model_is_asked() -> None:
    assert find(models("one", "two")) == "one"
    with pytest.raises(LoadError, match=r"/v1/models: names no model .*--url.*--model"):
        find(models())
    with pytest.raises(LoadError, match=r"404"):
        find(error("404 Not Found"))


def test_the_server_counts_how_long_a_token_is() -> None:
    async def work(client: Client) -> float:
        await client.calibrate()
        assert isinstance(client.writer, CharacterWriter)
        return client.writer.characters

    script = Script(
        stream({"choices": [{"text": "a"}]}, {"choices": [], "usage": {"prompt_tokens": 320}}, DONE)
    )
    assert script.run(work) == 5.0
    assert len(script.bodies[0]["prompt"]) == 1600
    with pytest.raises(LoadError, match=r"the first request failed \(400: no room"):
        Script(error("400 Bad Request")).run(work)
