"""From logits to tokens: greedy, or temperature and nucleus sampling with each request's own random stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.request import Request, TokenLogprobs


def sample(logits: torch.Tensor, requests: Sequence[Request]) -> list[int]:
    """Choose one token for each row of ``logits [batch, vocab]``."""
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    for row, request in enumerate(requests):
        if request.params.temperature > 0:
            tokens[row] = _draw(logits[row], request)
    return tokens


def append_logprobs(logits: torch.Tensor, requests: Sequence[Request], tokens: Sequence[int]) -> None:
    """Give the requests that asked for them the log-probabilities of ``tokens``, before temperature and nucleus."""
    for row, (request, token) in enumerate(zip(requests, tokens, strict=True)):
        if request.params.logprobs is not None:
            request.logprobs.append(_token_logprobs(logits[row], token, request.params.logprobs))


def _token_logprobs(logits: torch.Tensor, token: int, num_top: int) -> TokenLogprobs:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    top = logprobs.topk(min(num_top, len(logprobs)))
    return TokenLogprobs(float(logprobs[token]), tuple(top.indices.tolist()), tuple(top.values.tolist()))


def _draw(logits: torch.Tensor, request: Request) -> int:
    """Nucleus sampling (arXiv:1904.09751): the smallest set of best tokens whose probability reaches top_p."""
    params = request.params
    # In fp64 on the CPU: the stream and the result are the same on every device.
    probabilities = torch.softmax(logits.double().cpu() / params.temperature, dim=-1)
    best, order = probabilities.sort(descending=True, stable=True)
    before = best.cumsum(0) - best
    best[before >= params.top_p] = 0.0  # the first one always stays: nothing comes before it
    return int(order[torch.multinomial(best, 1, generator=request.generator)])
