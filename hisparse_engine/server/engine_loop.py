"""The engine's loop in its process: take commands, step, report. Knows no HTTP and no text.

With work it never waits; without, it sleeps until a command comes, and the command's first step follows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from hisparse_engine.engine import Engine
from hisparse_engine.errors import CapacityError
from hisparse_engine.request import Outcome, Request, RequestError, SamplingParams, Status
from hisparse_engine.server.channel import Channel
from hisparse_engine.server.messages import (
    Accepted,
    CachedTokens,
    Command,
    Drain,
    End,
    Ended,
    NewTokens,
    Refused,
    Step,
    Stopped,
    Submit,
)


@dataclass(eq=False)
class _Open:
    """A request that the front waits for, and how many of its tokens it has."""

    id: int
    request: Request
    num_sent: int = 0

    def news(self) -> NewTokens | None:
        """Return what was generated since the last call."""
        start, self.num_sent = self.num_sent, len(self.request.output)
        if start == self.num_sent:
            return None
        logprobs = [(p.chosen, list(p.top_ids), list(p.top)) for p in self.request.logprobs[start:]]
        return NewTokens(self.id, self.request.output[start:], logprobs)


class EngineLoop:
    """Runs one engine for one front. ``max_waiting`` requests may be in the queue after a step; newer ones are refused."""

    def __init__(self, engine: Engine, channel: Channel, *, max_waiting: int) -> None:
        self._engine = engine
        self._channel = channel
        self._max_waiting = max_waiting
        self._open: dict[int, _Open] = {}
        self._new: list[_Open] = []
        self._stale = False  # something ended between two steps: observers have not seen it yet
        self._draining = False

    def run(self) -> None:
        """Serve until the front says that it drains and every request has ended."""
        while self._busy or not self._draining:
            for command in self._channel.receive(wait=not self._busy):
                self._obey(command)
            if self._busy:
                self._step()
        self._channel.send(Stopped(_summary(self._engine)))
        self._channel.flush()

    @property
    def _busy(self) -> bool:
        return self._engine.has_work or self._stale

    def _obey(self, command: Command) -> None:
        match command:
            case Submit():
                self._submit(command)
            case End():
                self._end(command)
            case Drain():
                self._draining = True
            case _:
                raise AssertionError(f"not a command for a running engine: {command}")

    def _submit(self, job: Submit) -> None:
        try:
            params = SamplingParams(
                job.max_new_tokens, job.temperature, job.top_p, job.seed, job.ignore_eos, job.logprobs
            )
            request = self._engine.add_request(job.prompt, params)
        except (RequestError, CapacityError) as error:
            reason = "capacity" if isinstance(error, CapacityError) else "request"
            self._channel.send(Refused(job.id, reason, str(error)))
            self._stale = True
        else:
            self._open[job.id] = _Open(job.id, request)
            self._new.append(self._open[job.id])

    def _end(self, command: End) -> None:
        found = self._open.pop(command.id, None)
        if found is not None:
            self._engine.end(found.request, Outcome(command.outcome))
            self._stale = True

    def _step(self) -> None:
        self._stale = False
        self._engine.step()
        self._turn_away_what_found_no_place()
        accepted, self._new = [Accepted(new.id) for new in self._new if new.id in self._open], []
        tokens = [news for one in self._open.values() if (news := one.news()) is not None]
        over = [one for one in self._open.values() if one.request.outcome is not None]
        cached = [CachedTokens(one.id, one.request.num_cached_tokens) for one in over]
        ended = [Ended(one.id, one.request.outcome.value) for one in over if one.request.outcome is not None]
        for one in over:
            del self._open[one.id]
        if accepted or tokens or ended:
            self._channel.send(Step(accepted, cached, tokens, ended))

    def _turn_away_what_found_no_place(self) -> None:
        """Refuse the newest of those that came since the last step, as far as the queue is too long."""
        waiting = self._engine.scheduler.waiting
        for new in reversed(self._new):
            if len(waiting) <= self._max_waiting:
                return
            if new.request.status is Status.WAITING and self._open.pop(new.id, None) is not None:
                self._engine.end(new.request, Outcome.REJECTED)
                self._stale = True
                message = f"the queue is full ({self._max_waiting} requests wait)"
                self._channel.send(Refused(new.id, "queue", message))


def _summary(engine: Engine) -> str:
    tokens, totals = engine.coordinator.get_token_stats(), engine.totals
    empty = "pools empty" if tokens.device_tokens == tokens.host_tokens == 0 else f"pools NOT empty: {tokens}"
    return (
        f"Done: {totals.generation_tokens} tokens in {totals.decode_steps} decode steps, "
        f"{sum(totals.outcomes.values())} requests; {empty}."
    )
