"""The engine's loop over a real wire and a real engine: places, refusals, ends, and a front that does not listen."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from hisparse_engine.engine import Engine
from hisparse_engine.request import Outcome
from hisparse_engine.server.channel import Channel, FrontGoneError
from hisparse_engine.server.engine_loop import EngineLoop
from hisparse_engine.server.frames import FrameReader, frame
from hisparse_engine.server.messages import (
    Command,
    Drain,
    End,
    Event,
    Refused,
    Step,
    Stopped,
    Submit,
    decode,
    encode,
)
from tests.support.models import engine_config, random_prompt, tiny_model

ENDLESS = 400


class Front:
    """The other end: sends commands, reads events. The loop runs in a thread of its own."""

    def __init__(self, *, max_waiting: int = 8, max_running: int = 4, host_tokens: int = 4096) -> None:
        self.engine = Engine(
            tiny_model(),
            engine_config(
                hisparse={"host_tokens": host_tokens, "device_tokens": 256}, max_running_requests=max_running
            ),
        )
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(60)
        self._theirs = theirs
        self._reader, self._events = FrameReader(), iter(())
        loop = EngineLoop(self.engine, Channel(theirs), max_waiting=max_waiting)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self, loop: EngineLoop) -> None:
        try:
            loop.run()
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.error = error

    def send(self, *commands: Command) -> None:
        self._socket.sendall(b"".join(frame(encode(command)) for command in commands))

    def submit(
        self, request_id: int, *, new_tokens: int = 3, prompt: int = 5, logprobs: int | None = None
    ) -> None:
        self.send(job(request_id, new_tokens=new_tokens, prompt=prompt, logprobs=logprobs))

    def event(self) -> Event:
        while True:
            for payload in self._events:
                message = decode(payload)
                assert isinstance(message, Event)
                return message
            data = self._socket.recv(1 << 16)
            assert data, f"the loop ended: {self.error}"
            self._events = self._reader.feed(data)

    def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.event(), kind):
            pass
        return event

    def tokens_of(self, request_id: int) -> list[int]:
        """Read until a request ends; return its tokens."""
        tokens: list[int] = []
        while True:
            step = self.until(Step)
            assert isinstance(step, Step)
            tokens += [token for new in step.tokens if new.id == request_id for token in new.tokens]
            if any(ended.id == request_id for ended in step.ended):
                return tokens

    def stop(self) -> str:
        self.send(Drain())
        stopped = self.until(Stopped)
        self._thread.join(60)
        assert isinstance(stopped, Stopped)
        return stopped.summary

    def close(self) -> None:
        self._socket.close()
        self._thread.join(60)
        self._theirs.close()
        assert not self._thread.is_alive()


def job(request_id: int, *, new_tokens: int = 3, prompt: int = 5, logprobs: int | None = None) -> Submit:
    return Submit(request_id, random_prompt(prompt, request_id), new_tokens, 0.0, 1.0, 0, True, logprobs)


@pytest.fixture
def front() -> Iterator[Front]:
    one = Front()
    one.start()
    yield one
    one.close()


def test_tokens_are_the_engine_s_own(front: Front) -> None:
    alone = Engine(tiny_model(), engine_config())
    request = alone.add_request(job(3).prompt)
    alone.run()
    front.submit(3, new_tokens=16)
    assert front.tokens_of(3) == request.output


def test_logprobs_come_with_the_tokens_that_have_them(front: Front) -> None:
    front.submit(1, logprobs=2)
    step = front.until(Step)
    while not (isinstance(step, Step) and step.tokens):
        step = front.until(Step)
    (new,) = step.tokens
    ((chosen, ids, values),) = new.logprobs
    assert ids[0] == new.tokens[0]
    assert values[0] == chosen
    assert len(ids) == len(values) == 2


def test_an_idle_loop_drains_at_once_with_empty_pools(front: Front) -> None:
    assert front.stop().endswith("0 requests; pools empty.")


def test_draining_lets_what_runs_finish(front: Front) -> None:
    front.send(job(1, new_tokens=50), Drain())
    assert len(front.tokens_of(1)) == 50
    assert isinstance(front.until(Stopped), Stopped)


def test_a_request_that_can_never_fit_is_refused_with_the_numbers(front: Front) -> None:
    front.send(Submit(1, [999], 1, 0.0, 1.0, 0, False), job(2, new_tokens=510))
    first, second = front.event(), front.event()
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.id, first.reason, second.id, second.reason) == (1, "request", 2, "request")
    assert "999" in first.message
    assert "512 positions" in second.message


def test_what_the_pools_cannot_hold_is_a_matter_of_capacity() -> None:
    front = Front(host_tokens=64)
    front.start()
    front.submit(1, new_tokens=100)
    refused = front.event()
    assert isinstance(refused, Refused)
    assert refused.reason == "capacity"
    assert "--host-tokens" in refused.message
    front.close()


def test_a_burst_gets_as_many_places_as_there_are_and_the_newest_are_turned_away() -> None:
    front = Front(max_waiting=2, max_running=3)
    front.send(*(job(number, new_tokens=ENDLESS) for number in range(8)))
    front.start()  # all of them are there before the first step
    refused, accepted = set(), set()
    while len(refused | accepted) < 8:
        match front.event():
            case Refused(id=request_id, reason="queue"):
                refused.add(request_id)
            case Step(accepted=some):
                accepted |= {one.id for one in some}
    assert (accepted, refused) == ({0, 1, 2, 3, 4}, {5, 6, 7})
    assert front.engine.totals.outcomes[Outcome.REJECTED] == 3
    front.close()


def test_no_queue_at_all_still_takes_whoever_finds_a_place() -> None:
    front = Front(max_waiting=0, max_running=1)
    front.start()
    front.submit(1)
    assert len(front.tokens_of(1)) == 3
    front.close()


def test_an_ended_request_frees_its_slots_within_one_step(front: Front) -> None:
    front.submit(1, new_tokens=ENDLESS)
    front.submit(2, new_tokens=ENDLESS)
    front.until(Step)
    front.send(End(1, "aborted"), End(2, "stop"))
    summary = front.stop()
    assert summary.endswith("2 requests; pools empty.")
    outcomes = front.engine.totals.outcomes
    assert (outcomes[Outcome.ABORTED], outcomes[Outcome.STOP]) == (1, 1)


def test_ending_what_is_unknown_or_over_does_nothing(front: Front) -> None:
    front.send(End(77, "aborted"))
    front.submit(1)
    front.tokens_of(1)
    front.send(End(1, "aborted"))
    front.stop()
    assert front.engine.totals.outcomes[Outcome.ABORTED] == 0


def test_a_front_that_goes_ends_the_loop_in_the_middle_of_its_work() -> None:
    front = Front()
    front.start()
    front.submit(1, new_tokens=ENDLESS)
    front.until(Step)
    front.close()
    assert isinstance(front.error, FrontGoneError)


def test_a_front_that_does_not_read_delays_no_step() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    for _ in range(200):
        channel.send(Stopped("x" * 10_000))  # ten times what the socket holds
    reader, got = FrameReader(), 0
    ours.settimeout(60)
    while got < 200:
        got += len(list(reader.feed(ours.recv(1 << 16))))
        channel.receive(wait=False)  # as the loop does between steps
    ours.close()
    with pytest.raises(FrontGoneError):
        channel.receive(wait=True)
    theirs.close()


def test_a_wire_may_have_any_descriptor() -> None:
    """A process with many files open gives high numbers, which ``select`` does not take."""
    high = 1500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= high:
        pytest.skip(f"this process may not have a descriptor above {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, high + 100), hard))
    near, far = socket.socketpair()
    with near, socket.socket(fileno=fcntl.fcntl(far.detach(), fcntl.F_DUPFD, high)) as connection:
        assert connection.fileno() >= high
        near.sendall(frame(encode(Drain())))
        channel = Channel(connection)
        assert channel.receive(wait=True) == [Drain()]
        threading.Timer(0.01, near.sendall, [frame(encode(Drain()))]).start()
        assert channel.receive(wait=True) == [Drain()]
        channel.send(Stopped("done"))
        channel.flush()
