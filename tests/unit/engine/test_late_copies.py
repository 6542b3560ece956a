"""Copies beside the computation may be late, and graphs share memory: neither may change a single bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hisparse_engine import table_coordinator
from hisparse_engine.decoding import output, table_decoder
from hisparse_engine.request import Request, SamplingParams
from tests.support.late_copies import LateLink, SharedMemoryStep
from tests.support.models import BACKENDS, TOP_K, RecordingEngine, engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=5, max_position_embeddings=512)
ARRIVALS = {0: 150, 3: 40, 12: 90, 14: 210, 30: 60}  # step: tokens of the prompt that comes then
DOCUMENT = random_prompt(80, 7)  # with which every other one begins


def serve(**fields: Any) -> list[torch.Tensor]:
    """Return the logits of requests that come one by one, in buffers so small that rows come back from the host."""
    sizes = {"device_buffer_size": TOP_K, "device_tokens": 5 * (TOP_K + 1), "host_tokens": 2048}
    config = engine_config(hisparse=sizes, max_running_requests=5, **fields)
    engine = RecordingEngine(MODEL, config, backend=BACKENDS["tables"])
    requests: list[Request] = []
    for step in range(40):
        if step in ARRIVALS:
            prompt = DOCUMENT[: 80 * (step % 2 == 0)] + random_prompt(ARRIVALS[step], step)
            requests.append(engine.add_request(prompt, SamplingParams(30, ignore_eos=True)))
        if step == 20:
            engine.abort(requests[2])
        engine.step()
    engine.run()
    assert engine.coordinator.counters.misses > 100
    assert (engine.scheduler.num_prefix_hit_tokens > 0) == engine.config.prefix_reuse
    return [torch.stack(logits) for logits in engine.recorded.values()]


@pytest.mark.parametrize("prefix_reuse", [False, True])
@pytest.mark.parametrize("chunk", [4096, 17])
def test_no_bit_depends_on_when_copies_run(
    monkeypatch: pytest.MonkeyPatch, chunk: int, prefix_reuse: bool
) -> None:
    expected = serve(prefill_chunk_size=chunk, prefix_reuse=prefix_reuse)
    monkeypatch.setattr(table_coordinator, "make_link", lambda _: LateLink())
    monkeypatch.setattr(table_decoder, "make_runner", SharedMemoryStep)
    # as on a CUDA device, where tokens are copied before the next step begins
    monkeypatch.setattr(output, "to_host", torch.clone)
    late = serve(prefill_chunk_size=chunk, prefix_reuse=prefix_reuse)
    for logits, immediate in zip(late, expected, strict=True):
        torch.testing.assert_close(logits, immediate, rtol=0, atol=0)
