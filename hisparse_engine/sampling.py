"""From logits to tokens: greedy, or temperature and nucleus sampling with each request's own random stream.

Everything runs where the logits are and waits for nothing: the only random part, one uniform number a draw, comes from
the request's own generator on the CPU, so that a request's tokens depend neither on its neighbours nor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.request import Request, TokenLogprobs


def sample(logits: torch.Tensor, requests: Sequence[Request]) -> torch.Tensor:
    """Choose one token for each of the first ``len(requests)`` rows of ``logits [batch, vocab]``; int64 ``[requests]``."""
    return draw_where_asked(logits, requests, logits[: len(requests)].argmax(dim=-1))


def draw_where_asked(logits: torch.Tensor, requests: Sequence[Request], greedy: torch.Tensor) -> torch.Tensor:
    """Return ``greedy [requests]`` with the tokens of requests that have a temperature drawn anew."""
    rows = [row for row, request in enumerate(requests) if request.params.temperature > 0]
    if not rows:
        return greedy
    settings = [
        (
            row,
            requests[row].params.temperature,
            requests[row].params.top_p,
            float(torch.rand((), generator=requests[row].generator, dtype=torch.float64)),
        )
        for row in rows
    ]
    row, temperature, top_p, uniform = _on_device(settings, logits.device).unbind(1)
    chosen = row.long()
    return greedy.index_copy(0, chosen, _draw(logits[chosen], temperature, top_p, uniform))


def _on_device(settings: Sequence[tuple[float, ...]], device: torch.device) -> torch.Tensor:
    values = torch.tensor(settings, dtype=torch.float64)
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def _draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """Nucleus sampling (arXiv:1904.09751): among the smallest set of best tokens whose probability reaches ``top_p``.

    ``uniform [n]`` in [0, 1) chooses by the inverse of the set's cumulative distribution, in fp64.
    """
    probabilities = torch.softmax(logits.double() / temperature.unsqueeze(1), dim=-1)
    best, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = best.cumsum(-1) - best
    kept = best.masked_fill(
        before >= top_p.unsqueeze(1), 0.0
    )  # the first always stays: nothing comes before it
    kept[:, 0] = best[:, 0]
    up_to = kept.cumsum(-1)
    place = torch.searchsorted(up_to, (uniform * up_to[:, -1]).unsqueeze(1), right=True)
    last = (kept > 0).sum(-1, keepdim=True) - 1  # rounding must not choose what was ruled out
    return order.gather(1, torch.minimum(place, last)).squeeze(1)


class Logprobs:
    """The log-probabilities that some of a batch's requests asked for, before temperature and nucleus."""

    def __init__(self, logits: torch.Tensor, requests: Sequence[Request], tokens: torch.Tensor) -> None:
        """Compute them for ``tokens [requests]``; their way to the host begins here and is not waited for."""
        self._of_row: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        for row, request in enumerate(requests):
            if request.params.logprobs is not None:
                logprobs = torch.log_softmax(logits[row].float(), dim=-1)
                top = logprobs.topk(min(request.params.logprobs, len(logprobs)))
                chosen = logprobs.index_select(0, tokens[row : row + 1])
                self._of_row[row] = (to_host(chosen), to_host(top.indices), to_host(top.values))

    def of(self, row: int) -> TokenLogprobs | None:
        """Return one row's once the device is known to be done, or None when its request did not ask."""
        if row not in self._of_row:
            return None
        chosen, ids, values = self._of_row[row]
        return TokenLogprobs(float(chosen), tuple(ids.tolist()), tuple(values.tolist()))


def to_host(values: torch.Tensor) -> torch.Tensor:
    """Begin to copy ``values`` to the host; whoever reads the result waits for the stream first."""
    if values.device.type != "cuda":
        return values
    landing = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return landing.copy_(values, non_blocking=True)
