"""From logits to tokens: greedy, or temperature and nucleus sampling with each request's own random stream.

Everything runs where the logits are and waits for nothing: the only random part, one number a draw, comes from the
request's own generator on the CPU, so that a request's tokens depend neither on its neighbours nor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.request import Request, TokenLogprobs

_KEYS = 1 << 62
_GOLDEN, _MIX_1, _MIX_2 = (
    c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as int64


def sample(logits: torch.Tensor, requests: Sequence[Request]) -> torch.Tensor:
    """Choose one token for each of the first ``len(requests)`` rows of ``logits [batch, vocab]``; int64 ``[requests]``."""
    return draw_where_asked(logits, requests, logits[: len(requests)].argmax(dim=-1))


def draw_where_asked(logits: torch.Tensor, requests: Sequence[Request], greedy: torch.Tensor) -> torch.Tensor:
    """Return ``greedy [requests]`` with the tokens of requests that have a temperature drawn anew."""
    rows = [row for row, request in enumerate(requests) if request.params.temperature > 0]
    if not rows:
        return greedy
    keys = [int(torch.randint(_KEYS, (), generator=requests[row].generator)) for row in rows]
    params = [requests[row].params for row in rows]
    chosen = _on_device(torch.tensor(rows), logits.device)
    drawn = _draw(
        logits[chosen],
        _on_device(torch.tensor([p.temperature for p in params], dtype=torch.float64), logits.device),
        _on_device(torch.tensor([p.top_p for p in params], dtype=torch.float64), logits.device),
        _on_device(torch.tensor(keys), logits.device),
    )
    return greedy.index_copy(0, chosen, drawn)


def _on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def _draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, keys: torch.Tensor
) -> torch.Tensor:
    """Nucleus sampling (arXiv:1904.09751): among the smallest set of best tokens whose probability reaches ``top_p``.

    A race: every token gets an exponential time of rate p, and the first wins; all in fp64. Each token's chance is its
    own, so that logits which differ in their last bits, as those of another batch do, hardly ever choose another token;
    the inverse of a cumulative distribution would be sensitive to every token before.
    """
    probabilities = torch.softmax(logits.double() / temperature.unsqueeze(1), dim=-1)
    best, order = probabilities.sort(dim=-1, descending=True, stable=True)
    ruled_out = best.cumsum(-1) - best >= top_p.unsqueeze(1)
    ruled_out[:, 0] = False  # the first always stays: nothing comes before it
    winner = (best / _exponential(keys, order)).masked_fill_(ruled_out, -1.0).argmax(dim=-1, keepdim=True)
    return order.gather(1, winner).squeeze(1)


def _exponential(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return fp64 exponential numbers for ``tokens [n, vocab]``: a function of each and of its row's key, everywhere the same.

    The mixing is SplitMix64's (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    """
    mixed = tokens * _GOLDEN + keys.unsqueeze(1)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    mixed = mixed ^ _shifted(mixed, 31)
    return -torch.log((_shifted(mixed, 11).double() + 0.5) * 2.0**-53)


def _shifted(x: torch.Tensor, count: int) -> torch.Tensor:
    """Shift int64 right as if it had no sign."""
    return (x >> count) & ((1 << (64 - count)) - 1)


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
        return values.clone()  # later steps change the original, here as there
    landing = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return landing.copy_(values, non_blocking=True)
