"""Time of the model's layers on a GPU, and what share of the memory's bandwidth reading their weights gets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.cuda_dsa import FusedDecoder
from hisparse_engine.models.cuda_mlp import FusedDenseMlp, FusedMixtureOfExperts
from hisparse_engine.models.dsa import PlainDecoder
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.models.rope import Angles
from hisparse_engine.ops.gpu import routing
from tests.gpu.model_inputs import BF16, CUDA, SHAPES, StubPass, capture, random

NUM_EXPERTS = 32
LAYERS = 2


def measure(name: str, batches: Sequence[int], repeats: int) -> Iterator[dict[str, object]]:
    """Time layers with a dense MLP, and with experts."""
    for kind, first_dense in (("dense", LAYERS), (f"{NUM_EXPERTS} experts", 0)):
        config = SHAPES[name](LAYERS, NUM_EXPERTS, first_dense=first_dense, vocab_size=512)
        for row in layer_times(config, batches, repeats):
            yield {"mlp": kind, **row}


def microseconds(run: Callable[[], object], repeats: int) -> float:
    """Median time on the device."""
    times = []
    for _ in range(repeats + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return statistics.median(times[2:])


def copy_bandwidth() -> float:
    """GB/s of a large copy on the device, read and written."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=CUDA).random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / microseconds(lambda: target.copy_(source), 5) / 1e3


def layer_times(config: ModelConfig, batches: Sequence[int], repeats: int) -> Iterator[dict[str, object]]:
    """Time of a layer, fused in a graph and plain, and what share of the memory's bandwidth reading weights gets."""
    fused = FusedDecoder(RandomWeights(0, BF16, CUDA), config)
    plain = PlainDecoder(RandomWeights(0, BF16, CUDA), config)
    inputs = {tokens: layer_inputs(config, tokens) for tokens in batches}
    graphs = {tokens: capture(lambda i=i: fused(*i)) for tokens, i in inputs.items()}  # type: ignore[misc]
    bandwidth = copy_bandwidth()
    for tokens, i in inputs.items():
        after = microseconds(graphs[tokens][0].replay, repeats) / config.num_hidden_layers
        before = microseconds(lambda: plain(*i), repeats) / config.num_hidden_layers  # noqa: B023
        read = weight_bytes(fused, tokens) / config.num_hidden_layers
        yield {
            "tokens": tokens,
            "plain_us": round(before, 1),
            "fused_us": round(after, 1),
            "weights_read_mb": round(read / 1e6, 1),
            "share_of_bandwidth": round(read / after / 1e3 / bandwidth, 3),
            "copy_gb_per_s": round(bandwidth),
        }


def layer_inputs(config: ModelConfig, tokens: int) -> tuple[torch.Tensor, Angles, StubPass]:
    angles = torch.rand(tokens, config.qk_rope_head_dim // 2, device=CUDA)
    return random(tokens, config.hidden_size), (angles.cos(), angles.sin()), StubPass(tokens, config, CUDA)


def weight_bytes(decoder: FusedDecoder, tokens: int) -> float:
    """Bytes of the weights that a pass reads: of the experts, those that some token goes through."""
    total = 0.0
    for layer in decoder.layers:
        attention = layer.attention
        parts = [attention.down, attention.up, attention.key_up, attention.value_up, attention.out]
        total += sum(2 * part.numel() for part in parts)
        mlp = layer.mlp
        assert isinstance(mlp, FusedDenseMlp | FusedMixtureOfExperts)
        share = used_share(mlp, tokens) if isinstance(mlp, FusedMixtureOfExperts) else 1.0
        total += 2 * (mlp.gate_up.numel() + mlp.down.numel()) * share
    return total


def used_share(mlp: FusedMixtureOfExperts, tokens: int) -> float:
    """Experts that random routing uses, the shared ones included, of all."""
    logits = torch.randn(tokens, 1, mlp.routing.num_experts, device=CUDA)
    chosen, _ = routing.route(logits, mlp.bias, mlp.routing)
    return len(set(chosen.flatten().tolist())) / len(mlp.down)
