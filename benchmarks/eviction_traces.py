"""Traces of selections: from the locality model, from a sliding window, and from the engine's own indexer on real text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.decode_locality import Locality
from benchmarks.eviction_policies import Trace
from hisparse_engine.demo import texts
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.kv import KVLayout, PoolSizes
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel, load_model
from hisparse_engine.passes import PrefillPass
from hisparse_engine.resident import ResidentCoordinator
from hisparse_engine.tokenizer import Tokenizer

CHUNK = 256


def from_model(locality: Locality, context: int, steps: int, *, group: int = 0, request: int = 0) -> Trace:
    """Return what the locality model selects for one request and group."""
    selected = np.empty((steps, locality.top_k), dtype=np.int32)
    names, admitted = torch.tensor([request], dtype=torch.int32), torch.tensor([context], dtype=torch.int32)
    for step in range(1, steps + 1):
        chosen = locality.positions(names, admitted, admitted + step, group + 1)
        selected[step - 1] = chosen[group, 0].numpy()
    return Trace(selected, np.arange(context, context + steps, dtype=np.int32))


def sliding(top_k: int, context: int, steps: int, moved: int, seed: int = 1) -> Trace:
    """Return a window of ``top_k`` that moves by ``moved`` over a random order of all positions, round and round."""
    order = np.random.default_rng(seed).permutation(context).astype(np.int32)
    first = np.arange(steps)[:, None] * moved + np.arange(top_k)
    return Trace(order[first % context], np.arange(context, context + steps, dtype=np.int32))


@dataclass
class Recording:
    """A prompt chunk whose selections are kept: each token's are what decoding that token would have selected."""

    inner: PrefillPass
    kept: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.positions, self.float8_rows = self.inner.positions, self.inner.float8_rows

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        positions = self.inner.select(layer, query, key, weights)
        self.kept.setdefault(layer, []).append(positions.to(torch.int32))
        return positions

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        return self.inner.attend(layer, query, row, positions)


def demo_model(top_k: int) -> tuple[DsaModel, Tokenizer]:
    """Return the demo's model with another ``top_k``, and its tokenizer."""
    folder = ensure_demo_checkpoint()
    with Checkpoint.open(folder) as checkpoint:
        model = load_model(checkpoint, dtype=torch.float32, device=torch.device("cpu"))
    model.config = model.config.model_copy(update={"index_topk": top_k})
    return model, Tokenizer.open(folder)


@torch.inference_mode()
def recorded(model: DsaModel, tokens: list[int], first: int) -> Iterator[tuple[int, Trace]]:
    """Run ``tokens`` through the model; yield (layer, its trace from token ``first`` on) for each that runs an indexer."""
    config, device = model.config, model.device
    layout = KVLayout.from_indexer_types(config.kv_row_dim, config.index_head_dim, config.indexer_types)
    rows = len(tokens)
    coordinator = ResidentCoordinator(layout, PoolSizes(rows, rows, rows, rows))
    seat = coordinator.admit(rows)
    kept: dict[int, list[torch.Tensor]] = {}
    for start in range(0, rows, CHUNK):
        chunk = torch.tensor(tokens[start : start + CHUNK])
        coordinator.begin_chunk(seat, len(chunk))
        last = start + len(chunk) == rows
        inner = PrefillPass(coordinator, seat, len(chunk), rows, config, layout, device, last=last)
        model.forward(chunk, Recording(inner, kept))
    for layer, chunks in kept.items():
        selected = torch.cat(chunks)[first:].numpy()
        yield layer, Trace(selected, np.arange(first, rows, dtype=np.int32))


def stretches(tokenizer: Tokenizer, length: int) -> dict[str, list[int]]:
    """Return two stretches of ``length`` tokens: of the language reference, and of library sources."""
    tokens = tokenizer.encode(texts.corpus())
    return {"prose": tokens[:length], "source code": tokens[-length:]}
