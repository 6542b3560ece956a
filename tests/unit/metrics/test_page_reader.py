from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hisparse_metrics.page import PageWriter
from hisparse_metrics.page_layout import BODY, HEADER, PageError, PageHeader, PageLayout, encode_header
from hisparse_metrics.page_reader import read_page
from tests.unit.metrics.support import IDENTITY

LAYOUT = PageLayout()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    writer = PageWriter(tmp_path, IDENTITY, start_time=5.0)
    for value in (1.0, 2.0, 3.0):
        writer.cells[0] = value
        writer.commit()
    writer.close()
    return writer.path


def reason(path: Path) -> str:
    with pytest.raises(PageError) as caught:
        read_page(path)
    return caught.value.reason


def patch(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda p: p.unlink(), "unreadable"),
        (lambda p: (p.unlink(), p.mkdir()), "unreadable"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "unreadable"),
        (lambda p: (p.rename(p.with_suffix(".real")), p.symlink_to(p.with_suffix(".real"))), "unreadable"),
        (lambda p: os.truncate(p, 0), "truncated"),
        (lambda p: os.truncate(p, 3), "truncated"),
        (lambda p: os.truncate(p, BODY - 1), "truncated"),
        (lambda p: os.truncate(p, BODY), "truncated"),
        (lambda p: os.truncate(p, LAYOUT.total_bytes - 1), "truncated"),
        (lambda p: p.write_bytes(os.urandom(LAYOUT.total_bytes)), "garbage"),
        (lambda p: p.write_text("hello\n" * 2000), "garbage"),
        (lambda p: patch(p, 8, b"\xff"), "layout"),
        (lambda p: patch(p, 80, b"\xff"), "garbage"),
        (lambda p: patch(p, 20, b"\xff"), "garbage"),
    ],
)  # fmt: skip
def test_damage_is_a_page_error_with_its_reason(
    page: Path, damage: Callable[[Path], object], expected: str
) -> None:
    damage(page)
    assert reason(page) == expected


def test_page_of_another_catalogue_is_told_apart(tmp_path: Path) -> None:
    for name, layout in (("hash", PageLayout(catalogue_hash=b"x" * 16)), ("size", PageLayout(num_cells=3))):
        writer = PageWriter(tmp_path / name, IDENTITY, 0.0, layout)
        assert reason(writer.path) == "catalogue"
        assert read_page(writer.path, layout).cells == (0.0,) * layout.num_cells


@pytest.mark.parametrize("identity", [b"", b"[]", b"{}", b"[" * 3000, b'{"engine_name": 1}', b"\xff\xfe"])
def test_labels_that_cannot_be_read_are_garbage(page: Path, identity: bytes) -> None:
    """Also with a correct CRC: another program may write pages too."""
    import zlib

    raw = bytearray(encode_header(PageHeader(IDENTITY, 1, 2.0), LAYOUT))
    struct.pack_into("<I", raw, 52, len(identity))
    raw[HEADER.size : HEADER.size + len(identity)] = identity
    struct.pack_into("<I", raw, 12, zlib.crc32(raw[16:]))
    patch(page, 0, bytes(raw))
    assert reason(page) == "garbage"


def test_a_slot_that_does_not_match_its_crc_is_torn(page: Path) -> None:
    patch(page, LAYOUT.slot_offset(3) + 16, b"\x01")
    assert reason(page) == "torn"


def test_writer_stopped_in_the_middle_leaves_the_last_complete_step(page: Path) -> None:
    """Sequence 7 means: step 4 is being written, into the slot of step 2; step 3 is whole."""
    patch(page, BODY, struct.pack("=Q", 7))
    patch(page, LAYOUT.slot_offset(4), os.urandom(LAYOUT.slot_bytes // 2))
    found = read_page(page)
    assert (found.step, found.cells[0], found.alive) == (3, 3.0, False)


def test_sequence_from_nowhere_is_torn(page: Path) -> None:
    patch(page, BODY, struct.pack("=Q", 2**64 - 1))
    assert reason(page) == "torn"


def test_reading_leaks_no_descriptor(page: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read_page(page)
    os.truncate(page, 10)
    for _ in range(5):
        reason(page)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
