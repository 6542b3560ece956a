"""The two kinds of forward pass over device tables: ``models.interface.AttentionPass`` for both modes."""

from __future__ import annotations

import torch

from hisparse_engine.decoding.table_rows import Batch, Located, Rows
from hisparse_engine.memory.index_keys import IndexKeys
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import IndexKeyRows, TokenTables
from hisparse_engine.table_seat import TableSeat


class Selector:
    """Index keys of every group, and the scratch that scoring them takes."""

    def __init__(
        self,
        ops: Operations,
        index_keys: IndexKeys,
        group_of_layer: tuple[int, ...],
        tokens: TokenTables,
        scores: torch.Tensor,
        top_k: int,
    ) -> None:
        """``scores`` fp32 ``[most tokens at once, longest sequence]``."""
        self._ops, self._groups, self._tokens = ops, group_of_layer, tokens
        keys, scales = index_keys.pool.rows, index_keys.scales
        self._index = [
            IndexKeyRows(keys[group], None if scales is None else scales[group]) for group in range(len(keys))
        ]
        self._scores, self._top_k = scores, top_k

    def store(self, layer: int, slots: torch.Tensor, keys: torch.Tensor) -> None:
        """Write new index ``keys [T, dim]`` to ``slots`` int32 ``[T]``."""
        self._ops.store_index_keys(self._index[self._groups[layer]], slots, keys)

    def select(
        self,
        layer: int,
        query: torch.Tensor,
        weights: torch.Tensor,
        starts: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Return each token's top-k positions, int32 ``[T, k]``, as many tokens at once as there is scratch for."""
        positions = torch.empty((len(query), self._top_k), dtype=torch.int32, device=query.device)
        index, block = self._index[self._groups[layer]], len(self._scores)
        for first in range(0, len(query), block):
            part = slice(first, min(first + block, len(query)))
            self._ops.select(
                query[part],
                weights[part],
                index,
                self._tokens.index_slots,
                starts[part],
                lengths[part],
                positions[part],
                self._scores[: part.stop - first],
            )
        return positions


class TableDecodePass:
    """One new token of each request of a (padded) batch."""

    def __init__(
        self,
        batch: Batch,
        rows: Rows,
        selector: Selector,
        ops: Operations,
        config: ModelConfig,
    ) -> None:
        self._batch, self._rows, self._selector, self._ops, self._config = batch, rows, selector, ops, config
        self.positions = (batch.lengths - 1).clamp(min=0).long()
        self.float8_rows = rows.row_format.is_float8

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Store the new index keys and select over each request's whole sequence."""
        self._selector.store(layer, self._batch.index_slots, key)
        return self._selector.select(layer, query, weights, self._batch.starts, self._batch.lengths)

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Store the new rows, make the selected ones resident, and attend them."""
        return attend(self._ops, self._config, query, self._rows.decode(layer, self._batch, row, positions))


class TablePrefillPass:
    """A chunk of one request's prompt; its rows end at ``seat.length``."""

    def __init__(
        self,
        seat: TableSeat,
        num_tokens: int,
        tokens: TokenTables,
        rows: Rows,
        selector: Selector,
        ops: Operations,
        config: ModelConfig,
        *,
        last: bool,
    ) -> None:
        """Call after the coordinator's ``begin_chunk(seat, num_tokens)``; ``last`` marks the final chunk."""
        self._seat, self._rows, self._selector, self._ops, self._config = seat, rows, selector, ops, config
        self._last, self.float8_rows = last, rows.row_format.is_float8
        device, start = tokens.start.device, seat.length - num_tokens
        self.positions = torch.arange(start, seat.length, device=device)
        # One element expanded: it shows that all tokens are of one request and may share what is loaded.
        self._starts = torch.full((1,), seat.stretch.start, dtype=torch.int64, device=device).expand(
            num_tokens
        )
        self._lengths = (self.positions + 1).int()
        self._index_slots = tokens.index_slots[seat.stretch.start + start : seat.stretch.start + seat.length]
        rows.begin_prompt(seat, num_tokens, last=last)

    def select(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Store the chunk's index keys; each token selects among those up to itself."""
        self._selector.store(layer, self._index_slots, key)
        return self._selector.select(layer, query, weights, self._starts, self._lengths)

    def attend(
        self, layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Store the chunk's rows and attend the selected ones."""
        located = self._rows.prompt(layer, self._seat, row, positions, last=self._last)
        return attend(self._ops, self._config, query, located)


def attend(ops: Operations, config: ModelConfig, query: torch.Tensor, located: Located) -> torch.Tensor:
    """Attend located rows with a model's constants."""
    return ops.attend(
        query,
        located.rows,
        located.slots,
        scale=config.softmax_scale,
        latent_dim=config.kv_lora_rank,
    )
