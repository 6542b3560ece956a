from __future__ import annotations

import cProfile
import pstats

import pytest

from hisparse_metrics.sglang import LogParser
from hisparse_metrics.sglang.dialects import PHASES
from hisparse_metrics.sglang.learning import Source, learn
from hisparse_metrics.sglang.shape import Known, Memo
from hisparse_metrics.sglang.shapes import MAX_SHAPES, Shapes

BODY = "#running-req: 5, #queue-req: 12"
NAMES = ("#running-req", "#queue-req")
KNOWN: Known = ({"phase": "decode", "running_requests": 5, "waiting_requests": 12, "tp_rank": 0}, 0)
POOL = "#token: 20800, token usage: 0.29, cuda graph: True, gen throughput (token/s): 153.75"
LINE = f"[2026-04-08 14:09:56 TP0] Decode batch, #running-req: 5, {POOL}, #queue-req: 0"


def source(head: str = "[TP0] ", body: str = BODY, names: tuple[str, ...] = NAMES) -> Source:
    # A bracket of one rank is shorter than any that is printed; the time makes it one.
    return Source(head.replace("[", "[14:09:56 "), "Decode batch, ", body, PHASES["Decode"].fields, names)


def known(**more: int) -> Known:
    return ({**KNOWN[0], "time": "14:09:56", **more}, KNOWN[1])


def text(of: Source) -> str:
    return of.head + of.marker + of.body


def test_a_shape_reads_the_line_that_it_comes_from_and_lines_like_it() -> None:
    shape = learn(source(), known(), Memo())

    assert shape is not None
    assert shape.read(text(source())) == known()
    other = text(source(body="#running-req: 7, #queue-req: 1")).replace("TP0", "TP31")
    assert shape.read(other) == known(running_requests=7, waiting_requests=1, tp_rank=31)


@pytest.mark.parametrize(
    "changed", ["x{}", "{}x", "{},", "{}\rdone", "{}\n", "{}" * 2, " {}"], ids=lambda changed: repr(changed)
)
def test_a_shape_reads_whole_lines_only(changed: str) -> None:
    shape = learn(source(), known(), Memo())

    assert shape is not None
    assert shape.read(changed.replace("{}", text(source()))) is None


@pytest.mark.parametrize(
    "of",
    [
        source(body=BODY + "\rdone"), source(body=BODY + LINE), source(head="NCCL INFO [TP0] "),
        source(head="[TP0 scheduler.py:2] "), source(names=NAMES[:1]), source(head="(a pid=1) (b pid=2) [TP0] "),
    ],
)  # fmt: skip
def test_a_line_that_holds_more_than_its_record_has_no_shape(of: Source) -> None:
    assert learn(of, known(), Memo()) is None


def test_a_reading_that_differs_is_no_shape() -> None:
    assert learn(source(), known(running_requests=6), Memo()) is None
    assert learn(source(), ({**known()[0], "running_requests": 5.0}, 0), Memo()) is None


def test_shapes_are_bounded() -> None:
    shapes = Shapes()
    sources = [source(head=f"[{chr(65 + n)}P0] ") for n in range(MAX_SHAPES + 1)]
    for n, of in enumerate(sources):
        values = {key: value for key, value in known()[0].items() if key != "tp_rank"}
        shapes.learn(of, ({**values, f"{chr(97 + n)}p_rank": 0}, 0))

    assert all(shapes.read(text(of)) for of in sources[:-1])
    assert shapes.read(text(sources[-1])) is None


def test_memory_of_texts_is_bounded() -> None:
    memo = Memo()
    for n in range(50_000):
        assert memo[str(n)] == n

    assert len(memo) < 10_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("0.29", 0.29), ("True", True), ("False", False), ("2026-04-08", "2026-04-08"),
        ("14:09:56", "14:09:56"), ("14:09:56.170", "14:09:56.170"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "fd00::7"),
    ],
)  # fmt: skip
def test_the_form_of_a_text_tells_its_type(text: str, value: object) -> None:
    read = Memo()[text]

    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    "line",
    [LINE, LINE + ", ", LINE + ", #new: 1", f"(A pid=1, ip=10.0.0.7) {LINE}", f"(A pid=1) {LINE}",
     f"2026-08-23T09:10:52.123456789Z stderr F {LINE}", LINE.partition("] ")[2], LINE.replace("batch", "batch [12]")],
)  # fmt: skip
def test_the_second_line_of_a_kind_is_read_in_one_go(line: str) -> None:
    parser = LogParser()
    first = parser.feed(line)
    profile = cProfile.Profile()
    second = profile.runcall(parser.feed, line)

    assert second[0].values == first[0].values
    assert pstats.Stats(profile).total_calls < 60  # field by field it is some hundreds
