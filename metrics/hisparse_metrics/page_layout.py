"""The bytes of a stats page: offsets, header, slots. Opens no file and takes no lock.

======================  =====================================================================================
offset                  content
======================  =====================================================================================
0                       header: magic, layout version, CRC of the rest, catalogue hash, pid, start time,
                        number of cells, length of the identity
64                      identity: UTF-8 JSON of the constant labels
``BODY``                sequence number: ``2 * step``, and odd while step ``(sequence + 1) / 2`` is being written
``BODY + 64``           slot 0: CRC, step, cells
``BODY + 64 + slot``    slot 1: the same
======================  =====================================================================================

Step *n* goes to slot *n* mod 2, so the slot of the last complete step is never being written: a writer that dies
in the middle leaves its last complete step readable. The CRC covers step and cells, so that a torn copy is known
as torn whatever the memory ordering of the CPU.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass

from hisparse_metrics import catalogue
from hisparse_metrics.stats import EngineIdentity

MAGIC = b"HISPARSE"
LAYOUT_VERSION = 1
HEADER = struct.Struct("<8sII16sQdII8x")
BODY = 4096
SLOTS = BODY + 64
IDENTITY_BYTES = BODY - HEADER.size
CELLS_IN_SLOT = 16
_VERSIONED = struct.Struct("<8sI")
_CRC_END = 16


class PageError(Exception):
    """A file is not a page that this program can read; ``reason`` is a value of the catalogue's skip reasons."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PageLayout:
    """How many cells a page has and what they mean."""

    num_cells: int = sum(metric.num_cells for metric in catalogue.PAGE)
    catalogue_hash: bytes = catalogue.CATALOGUE_HASH

    @property
    def slot_bytes(self) -> int:
        """CRC, step and cells, in bytes."""
        return CELLS_IN_SLOT + 8 * self.num_cells

    @property
    def total_bytes(self) -> int:
        """Size of the whole page file, in bytes."""
        return SLOTS + 2 * self.slot_bytes

    def slot_offset(self, step: int) -> int:
        """Return where in the file ``step`` is written."""
        return SLOTS + (step & 1) * self.slot_bytes


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What is constant in a page: who writes it, and since when (Unix seconds)."""

    identity: EngineIdentity
    pid: int
    start_time: float


def encode_header(header: PageHeader, layout: PageLayout) -> bytes:
    """Return the ``BODY`` first bytes of a page.

    Raises :class:`ValueError` when the labels are too long, or not text that UTF-8 can encode.
    """
    identity = json.dumps(asdict(header.identity), ensure_ascii=False).encode()
    if len(identity) > IDENTITY_BYTES:
        raise ValueError(
            f"engine labels take {len(identity)} bytes; at most {IDENTITY_BYTES} fit in a stats page"
        )
    facts = (layout.catalogue_hash, header.pid, header.start_time, layout.num_cells, len(identity))
    packed = bytearray(HEADER.pack(MAGIC, LAYOUT_VERSION, 0, *facts) + identity.ljust(IDENTITY_BYTES, b"\0"))
    struct.pack_into("<I", packed, _VERSIONED.size, zlib.crc32(packed[_CRC_END:]))
    return bytes(packed)


def decode_header(raw: bytes, layout: PageLayout) -> PageHeader:
    """Read back what :func:`encode_header` wrote.

    Raises :class:`PageError` when ``raw`` is too short, not a page, of another layout or catalogue, or damaged.
    """
    _check_version(raw)
    _, _, crc, catalogue_hash, pid, start_time, num_cells, length = HEADER.unpack_from(raw)
    if zlib.crc32(raw[_CRC_END:BODY]) != crc:
        raise PageError("garbage", "the header is damaged")
    if (catalogue_hash, num_cells) != (layout.catalogue_hash, layout.num_cells):
        raise PageError(
            "catalogue", "written with another metric catalogue: run the exporter of the same release"
        )
    return PageHeader(_decode_identity(raw[HEADER.size : HEADER.size + length]), pid, start_time)


def _check_version(raw: bytes) -> None:
    if not MAGIC.startswith(raw[: len(MAGIC)]):
        raise PageError("garbage", "not a stats page")
    if len(raw) < BODY:
        raise PageError("truncated", f"{len(raw)} bytes, shorter than a page header")
    _, version = _VERSIONED.unpack_from(raw)
    if version != LAYOUT_VERSION:
        raise PageError("layout", f"page layout {version}, this program reads {LAYOUT_VERSION}")


def _decode_identity(raw: bytes) -> EngineIdentity:
    """Read the labels, each as the type of its default; text that cannot be exposed counts as damage."""
    try:
        labels = json.loads(raw)
        known = {name: type(default)(labels[name]) for name, default in asdict(EngineIdentity()).items()}
        "".join(map(str, known.values())).encode()
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PageError("garbage", f"the engine labels cannot be read: {error}") from None
    return EngineIdentity(**known)
