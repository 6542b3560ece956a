"""Seats whose place is also written in device tables, and the coordinator parts that both modes share."""

from __future__ import annotations

from dataclasses import dataclass, field

from hisparse_engine.kv import Seat
from hisparse_engine.memory.device_tables import RequestTables
from hisparse_engine.memory.extents import Extent
from hisparse_engine.memory.pool import Claim


@dataclass(eq=False)
class TableSeat(Seat):
    """An admitted request's place, and where the tables say so: its row, and its stretch of the by-token tables."""

    row: int = -1
    stretch: Extent = field(default=Extent(0, 0))
    max_tokens: int = 0

    @property
    def home(self) -> Claim:
        """The claim in which the KV rows live: the host pool's, or the device pool's where there is no host tier."""
        return self.host if self.host.size else self.device


def open_seat(seat: Seat, max_tokens: int, requests: RequestTables) -> TableSeat:
    """Give an admitted request its row and stretch, and write down where its tokens are."""
    row, stretch = requests.open(max_tokens)
    opened = TableSeat(
        seat.device,
        seat.host,
        seat.index,
        seat.holding,
        length=seat.length,
        row=row,
        stretch=stretch,
        max_tokens=max_tokens,
    )
    write_slots(opened, 0, requests)
    return opened


def write_slots(seat: TableSeat, start: int, requests: RequestTables) -> None:
    """Write down the slots of positions ``start …``, after they were claimed or borrowed."""
    requests.write(seat.stretch, start, seat.home.slots[start:], seat.index.slots[start:])
