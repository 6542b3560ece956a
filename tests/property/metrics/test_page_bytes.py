from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.page import PageWriter
from hisparse_metrics.page_layout import SLOTS, PageError, PageLayout
from hisparse_metrics.page_reader import PageSnapshot, read_page
from hisparse_metrics.stats import EngineIdentity

LAYOUT = PageLayout()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
RANK = st.integers(0, 10**6)
IDENTITIES = st.builds(
    EngineIdentity, TEXT, TEXT, RANK, RANK, RANK, RANK, version=TEXT, mode=TEXT, device=TEXT, dtype=TEXT
)
CELLS = st.lists(st.floats(allow_nan=False), min_size=LAYOUT.num_cells, max_size=LAYOUT.num_cells)


def write(folder: str, identity: EngineIdentity, *commits: list[float]) -> Path:
    writer = PageWriter(Path(folder), identity, start_time=1.0)
    for cells in commits:
        for index, value in enumerate(cells):
            writer.cells[index] = value
        writer.commit()
    writer.close()
    return writer.path


@settings(max_examples=50)
@given(IDENTITIES, st.lists(CELLS, max_size=3))
def test_what_is_written_is_what_is_read(identity: EngineIdentity, commits: list[list[float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = read_page(write(folder, identity, *commits))
    assert page.header.identity == identity
    assert page.step == len(commits)
    assert list(page.cells) == (commits[-1] if commits else [0.0] * LAYOUT.num_cells)


@settings(max_examples=300)
@given(st.integers(0, LAYOUT.total_bytes - 1), st.binary(min_size=1, max_size=64), st.booleans())
def test_damage_is_told_or_harmless(offset: int, junk: bytes, cut: bool) -> None:
    """Whatever a page's bytes become, a reader gets one of its true commits or a page error; never anything else."""
    commits = [[float(n)] * LAYOUT.num_cells for n in (1, 2)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, EngineIdentity(), *commits)
        raw = path.read_bytes()
        path.write_bytes(raw[:offset] + junk + (b"" if cut else raw[offset + len(junk) :]))
        found = page_or_reason(path)
    if isinstance(found, str):
        assert found in {"truncated", "garbage", "layout", "catalogue", "torn"}
    else:
        assert found.header.identity == EngineIdentity()
        assert list(found.cells) in commits


def page_or_reason(path: Path) -> PageSnapshot | str:
    try:
        return read_page(path)
    except PageError as error:
        return error.reason


@given(st.integers(1, 300), st.integers(0, 50))
def test_slots_never_overlap(num_cells: int, step: int) -> None:
    layout = PageLayout(num_cells=num_cells)
    first, second = sorted((layout.slot_offset(step), layout.slot_offset(step + 1)))
    assert first >= SLOTS
    assert first + layout.slot_bytes <= second
    assert second + layout.slot_bytes <= layout.total_bytes
    assert (first % 8, layout.slot_bytes % 8) == (0, 0)
