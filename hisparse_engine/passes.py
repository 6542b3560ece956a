"""The two kinds of forward pass over the KV cache: a decode batch and a prefill chunk.

Each implements ``models.interface.AttentionPass`` on top of any ``EagerKVCoordinator``, so that hierarchical and resident
mode run the very same arithmetic and differ only in where rows are found.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.kv import EagerKVCoordinator, KVLayout, Seat
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.ops.attention import attend_gathered, gather_rows, prefill_attention
from hisparse_engine.ops.select import MASKED, select_decode, select_prefill


class DecodePass:
    """One new token of each request: select, swap in, attend exactly the selected rows."""

    def __init__(
        self,
        coordinator: EagerKVCoordinator,
        seats: Sequence[Seat],
        config: ModelConfig,
        layout: KVLayout,
        device: torch.device,
    ) -> None:
        """``seats`` as given to ``coordinator.begin_step``."""
        self._coordinator, self._config, self._layout = coordinator, config, layout
        self._claims = [seat.index for seat in seats]
        self.positions = torch.tensor([seat.length - 1 for seat in seats], device=device)
        self._format = coordinator.row_format
        self.float8_rows = self._format.is_float8

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Store the new index keys and select over each request's whole sequence."""
        keys, group = self._coordinator.index_keys, self._layout.group_of_layer[layer]
        keys.append(group, self._claims, key)
        return select_decode(
            query, weights, [keys.read(group, claim) for claim in self._claims], self._config.index_topk
        )

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Write the new rows, make the selected ones resident, and attend them."""
        self._coordinator.write_newest(layer, self._format.store(row))
        slots = self._coordinator.swap_in(layer, positions)
        stored = gather_rows(self._coordinator.device_rows(layer), slots)
        return attend_gathered(
            query,
            self._format.load(stored, query.dtype),
            positions != MASKED,
            scale=self._config.softmax_scale,
            latent_dim=self._config.kv_lora_rank,
        )


class PrefillPass:
    """A chunk of one request's prompt; its rows end at ``seat.length``."""

    def __init__(
        self,
        coordinator: EagerKVCoordinator,
        seat: Seat,
        num_tokens: int,
        prompt_length: int,
        config: ModelConfig,
        layout: KVLayout,
        device: torch.device,
        *,
        last: bool,
    ) -> None:
        """Call after ``coordinator.begin_chunk(seat, num_tokens)``; ``last`` marks the final chunk.

        Tokens from ``prompt_length`` on were generated before a retraction and are computed again.
        """
        self._coordinator, self._seat, self._config, self._layout = coordinator, seat, config, layout
        self._start, self._prompt_length = seat.length - num_tokens, prompt_length
        self._last, self._format = last, coordinator.row_format
        self.float8_rows = self._format.is_float8
        self.positions = torch.arange(self._start, seat.length, device=device)

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Store the chunk's index keys; each token selects among those up to itself."""
        keys, group = self._coordinator.index_keys, self._layout.group_of_layer[layer]
        keys.write(group, self._seat.index, self._start, key)
        return select_prefill(
            query,
            weights,
            keys.read(group, self._seat.index),
            self._start,
            self._config.index_topk,
            self._prompt_length,
        )

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Store the chunk's rows, get all rows so far, and attend the selected ones."""
        stored = self._format.store(row)
        rows = self._coordinator.write_prompt(layer, self._seat, stored, last=self._last)
        return prefill_attention(
            query,
            self._format.load(rows, query.dtype),
            positions,
            scale=self._config.softmax_scale,
            latent_dim=self._config.kv_lora_rank,
        )
