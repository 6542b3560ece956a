"""Messages survive the wire as they are, and nothing else passes for one."""

from __future__ import annotations

import pytest

from hisparse_engine.server.messages import (
    Accepted,
    CachedTokens,
    Command,
    Drain,
    End,
    Ended,
    Event,
    Failed,
    MessageError,
    NewTokens,
    Ready,
    Refused,
    Start,
    Step,
    Stopped,
    Submit,
    decode,
    encode,
)

MESSAGES: list[Command | Event] = [
    Start("/model", "name", {"mode": "resident"}, {"host_tokens": None}, None, "serve", 3),
    Submit(1, [1, 2, 3], 16, 0.5, 1.0, 2**62, True, 5),
    Submit(2, [7], 1, 0.0, 1.0, 0, False, None),
    End(1, "aborted"),
    Drain(),
    Ready(512, 400, 64, 512, 32, 16, "/dev/shm/x"),
    Failed("model: größer"),
    Refused(3, "queue", "full"),
    Step(
        [Accepted(1)], [CachedTokens(1, 9)], [NewTokens(1, [4, 5], [[-0.5, [4], [-0.5]]])], [Ended(1, "stop")]
    ),  # type: ignore[list-item]
    Stopped("Done"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_it_arrives_as_it_was_sent(message: Command | Event) -> None:
    arrived = decode(encode(message))
    assert (type(arrived), arrived) == (type(message), message)


def test_the_parts_of_a_step_have_their_types() -> None:
    step = decode(encode(MESSAGES[-2]))
    assert isinstance(step, Step)
    assert step.tokens[0].tokens == [4, 5]
    assert step.ended[0].outcome == "stop"


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b'["Nobody"]', b'["End",1]', b'["End",1,"a",2]', b"\xff"]
)
def test_anything_else_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode(payload)
