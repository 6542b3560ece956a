"""The swap-in benchmark's workload: requests that slide a window over their own random cycle of tokens.

Each request and step wants ``WINDOW`` positions, of which exactly ``misses`` are not in its buffer; and has one new
token, which needs a seat. The rows' contents are a function of their host slot, so that they can be verified anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hisparse_engine.ops.tables import NONE, HotTables, SwapPlan, TokenTables

WINDOW = 2048
PAGE = 64
POOL_BYTES = 6 * 1000**3
TOKENS = 16384


@dataclass(frozen=True)
class Shape:
    """One cell of the benchmark's tables."""

    batch: int
    misses: int
    row_bytes: int = 656
    buffer: int = 4096
    contiguous: bool = False
    """Whether a request's rows lie one after another in host memory, or in random pages of 64 tokens."""
    most_tokens: int = TOKENS
    """How long each request's cycle is, where that many rows fit the pool."""

    @property
    def tokens(self) -> int:
        """Tokens of each request, whole pages."""
        fit = POOL_BYTES // (self.batch * self.row_bytes)
        return min(self.most_tokens, fit // PAGE * PAGE)

    @property
    def host_tokens(self) -> int:
        return self.batch * self.tokens


@dataclass
class Workload:
    """Device tables for ``steps`` calls of one shape, full buffers before the first."""

    shape: Shape
    tokens: TokenTables
    hot: HotTables
    rows: torch.Tensor
    lengths: torch.Tensor  # [steps, batch]
    positions: torch.Tensor  # [steps, batch, WINDOW]
    now: torch.Tensor  # [steps]
    num_copies: torch.Tensor  # [steps]
    plan: SwapPlan
    new_rows: torch.Tensor
    device_rows: torch.Tensor

    @property
    def steps(self) -> int:
        return len(self.now)

    def at(self, step: int) -> tuple[HotTables, SwapPlan]:
        """Return the tables and the plan as call ``step`` sees them: nothing but kernels of ours runs in a step."""
        h, p = self.hot, self.plan
        now = self.now[step : step + 1]
        hot = HotTables(h.where, h.position_at, h.last_use, h.buffer, h.buffer_size, now, h.counts)
        count = self.num_copies[step : step + 1]
        return hot, SwapPlan(p.slots, p.newest, p.copy_from, p.copy_to, count)


def make(shape: Shape, steps: int, device: torch.device, seed: int = 0) -> Workload:
    """Build tables in which every request has just used the window before its first step's, and older ones before."""
    torch.manual_seed(seed)
    batch, length, size = shape.batch, shape.tokens, shape.buffer
    stretch = length + steps + 1
    i32 = {"dtype": torch.int32, "device": device}
    pages = torch.arange(shape.host_tokens // PAGE, device=device)
    if not shape.contiguous:
        pages = pages[torch.randperm(len(pages), device=device)]
    home = torch.full((batch, stretch), NONE, **i32)
    home[:, :length] = (pages[:, None] * PAGE + torch.arange(PAGE, device=device)).view(batch, length)

    # Seats in pages too, in random order.
    device_tokens = batch * size
    seat_pages = torch.randperm(device_tokens // PAGE, device=device)
    buffer = (seat_pages[:, None] * PAGE + torch.arange(PAGE, device=device)).view(batch, size).int()

    cycle = torch.rand(batch, length, device=device).argsort(1)
    hot = HotTables(
        where=torch.full((1, batch * stretch), NONE, **i32),
        position_at=torch.full((1, device_tokens), NONE, **i32),
        last_use=torch.zeros((1, device_tokens), **i32),
        buffer=buffer,
        buffer_size=torch.full((batch,), size, **i32),
        now=torch.zeros(1, **i32),
        counts=torch.zeros(3, dtype=torch.int64, device=device),
    )
    start = torch.arange(batch, device=device) * stretch
    first_step = 1 + size  # ages may be as old as the buffer is long
    seats = buffer.gather(1, torch.rand(batch, size, device=device).argsort(1))  # any seat may be the oldest
    # Seat j holds the j-th token of the cycle; the window before the first step ends at the buffer's last.
    held = cycle[:, :size]
    hot.where[0].scatter_(0, (start[:, None] + held).flatten(), seats.flatten())
    hot.position_at[0].scatter_(0, seats.flatten().long(), held.flatten().int())
    ages = (torch.arange(size, device=device) - (size - WINDOW)).clamp(max=0) // max(shape.misses, 1)
    hot.last_use[0].scatter_(
        0, seats.flatten().long(), (first_step - 1 + ages).clamp(min=1).int().repeat(batch)
    )
    first = size - WINDOW + (torch.arange(steps, device=device) + 1) * shape.misses
    window = (first[:, None] + torch.arange(WINDOW, device=device)) % length
    positions = cycle[:, window.flatten()].view(batch, steps, WINDOW).transpose(0, 1).sort(2).values.int()
    width = shape.row_bytes // 4
    device_rows = torch.empty(device_tokens, width, **i32)
    for slots, held_home in zip(seats.long(), home.gather(1, held), strict=True):
        device_rows[slots] = rows_of(held_home, width)
    return Workload(
        shape,
        TokenTables(start, torch.empty(0, **i32), home.flatten()),
        hot,
        torch.arange(batch, **i32),
        (length + 1 + torch.arange(steps, device=device)).int()[:, None].repeat(1, batch).contiguous(),
        positions.contiguous(),
        first_step + torch.arange(steps, **i32),
        torch.zeros(steps, **i32),
        SwapPlan(
            torch.empty(batch, WINDOW, **i32),
            torch.empty(batch, **i32),
            torch.empty(batch * WINDOW, **i32),
            torch.empty(batch * WINDOW, **i32),
            torch.zeros(1, **i32),
        ),
        torch.full((batch, width), 7, **i32),
        device_rows,
    )


def rows_of(host_slots: torch.Tensor, width: int) -> torch.Tensor:
    """Return the contents of these rows: int32 ``[rows, width]``."""
    return (
        host_slots.int()[:, None] * 1000003
        + torch.arange(width, dtype=torch.int32, device=host_slots.device) * 40503
    )


def fill(host_rows: torch.Tensor, device: torch.device) -> None:
    """Write every row of the pinned ``host_rows`` int32 ``[layers, host_tokens, width]``, by the GPU."""
    for layer in host_rows:
        for part in torch.arange(len(layer)).split(1 << 20):
            layer[part[0] : part[-1] + 1].copy_(rows_of(part.to(device), layer.shape[1]), non_blocking=True)
    torch.cuda.synchronize()


def wrong_rows(work: Workload, step: int) -> int:
    """Count the wanted rows that are not, after call ``step``, what their home holds; must be 0."""
    home = work.tokens.home.view(work.shape.batch, -1).gather(1, work.positions[step].long())
    wrong = 0
    for want, slot in zip(home.split(16), work.plan.slots.split(16), strict=True):
        rows = work.device_rows[slot.flatten().long()]
        wrong += int((rows != rows_of(want.flatten(), rows.shape[1])).any(1).sum())
    newest = work.device_rows[work.plan.newest.long()]
    return wrong + int((newest != work.new_rows).any(1).sum())
