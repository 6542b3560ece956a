from __future__ import annotations

import json

import pytest

from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sglang.partial import MAX_BYTES, MAX_STREAMS, PartialLines

LINE = (
    "[2026-04-08 14:09:56 TP0] Decode batch, #running-req: 5, #gpu token: 20800, gpu token usage: 0.29, "
    "#cpu token: 41422, cpu token usage: 0.29, cuda graph: True, gen throughput (token/s): 153.75, #queue-req: 0"
)
(BARE,) = LogParser().feed(LINE)
STAMP = "2026-08-23T09:10:52.123456789Z"
RAY = {"ray_pid": 4182, "ray_ip": "10.0.0.7"}


def docker(text: str, **more: str) -> str:
    return json.dumps({"log": text, "stream": "stderr", "time": STAMP, **more})


def one(*lines: str | bytes) -> Record:
    """Return the only thing that ``lines`` say, which the last of them completes."""
    parser = LogParser()
    assert not [found for line in lines[:-1] for found in parser.feed(line)]
    (record,) = parser.feed(lines[-1])
    assert isinstance(record, Record)
    assert record.line == len(lines)
    return record


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        (f"{STAMP} stderr F {LINE}", ""),
        (f"2026-08-23T09:10:52.123456789+02:00 stdout F {LINE}", ""),
        (docker(LINE + "\n"), ""),
        (docker(LINE + "\r\n", attrs="x"), ""),
        (docker(LINE, kubernetes="x"), ""),  # a collector that took the line end off
        (f"{STAMP} {LINE}", ""),
        (f"sglang-decode-1  | {LINE}", "sglang-decode-1"),
        (f"[pod/sglang-decode-0/sglang] {LINE}", "pod/sglang-decode-0/sglang"),
        (f"sglang-decode-0 sglang {LINE}", "sglang-decode-0/sglang"),
        (f"sglang-decode-0 › sglang {LINE}", "sglang-decode-0/sglang"),
        (f"Aug 23 09:10:52 gpu-7 sglang[4182]: {LINE}", ""),
        (f"2026-08-23T09:10:52+0200 gpu-7 python3[4182]: {LINE}", ""),
        (json.dumps({"MESSAGE": LINE, "_PID": "4182"}), ""),
        (json.dumps({"MESSAGE": list(b"\x1b[36m" + LINE.encode() + b"\x1b[0m")}), ""),
        (json.dumps({"message": LINE, "levelname": "INFO"}), ""),
        (f"\x1b[1;36m{LINE}\x1b[0m", ""),
        (f"\x1b]0;title\x07{LINE}", ""),
        (f"[36m{LINE}[0m", ""),  # escapes lost on the way
        (f"\ufeff{LINE}", ""),
        ("\0" * 4096 + LINE, ""),
        (LINE + "\r\n", ""),
        (f"Capturing: 10%\rCapturing: 99%\r{LINE}\rdone", ""),
        (f"Capturing: 10%|#    | 1/9 [00:01<00:08]{LINE}", ""),
        (f"gpu-7:4182:4290 [0] NCCL INFO {LINE}", ""),
        (docker(f"{STAMP} stderr F {LINE}\n"), ""),
        (f"web-1  | {docker(LINE + chr(10))}", "web-1"),
        (f"[pod/a/b] {STAMP} {LINE}", "pod/a/b"),
    ],
)
def test_envelope_is_taken_off(line: str, origin: str) -> None:
    record = one(line)

    assert record.values == BARE.values
    assert record.origin == origin


@pytest.mark.parametrize(
    "line",
    [
        f"(SGLangEngine pid=4182, ip=10.0.0.7) {LINE}",
        f"\x1b[36m(SGLangEngine pid=4182, ip=10.0.0.7)\x1b[0m {LINE}\x1b[32m [repeated 3x across cluster]\x1b[0m",
        f"(SGLangEngine pid=4182, ip=10.0.0.7) {LINE} [repeated 3x across cluster] (Ray deduplicates logs)",
        f"{STAMP} stderr F (SGLangEngine pid=4182, ip=10.0.0.7) {LINE}",
    ],
)
def test_ray_tells_its_process(line: str) -> None:
    assert one(line).values == BARE.values | RAY


@pytest.mark.parametrize("cut", [1, 30, 100, len(LINE) - 1])
def test_parts_of_a_line_are_put_together(cut: int) -> None:
    assert one(f"{STAMP} stderr P {LINE[:cut]}", f"{STAMP} stderr F {LINE[cut:]}").values == BARE.values
    assert one(docker(LINE[:cut]), docker(LINE[cut:] + "\n")).values == BARE.values
    assert one(docker(LINE[:cut]), docker(LINE[cut:]), docker("\n")).values == BARE.values


def test_streams_and_origins_do_not_mix() -> None:
    begin, end = LINE[:90], LINE[90:]
    parser = LogParser()

    assert not parser.feed(f"{STAMP} stderr P {begin}")
    assert not parser.feed(f"{STAMP} stdout F other")
    assert not parser.feed(f"[pod/a/b] {STAMP} stderr P something")
    (record,) = parser.feed(f"{STAMP} stderr F {end}")
    assert record.values == BARE.values


def test_a_line_without_its_rest_says_nothing() -> None:
    parser = LogParser()

    assert not parser.feed(f"{STAMP} stderr P {LINE}")
    assert not parser.finish()
    assert (parser.parsed, parser.malformed, parser.ignored) == (0, 1, 0)


def test_a_line_of_too_many_parts_is_given_up_and_the_next_is_read() -> None:
    parser = LogParser()
    for _ in range(2 * MAX_BYTES // 16384):
        assert not parser.feed(f"{STAMP} stderr P {'x' * 16384}")

    assert not parser.feed(f"{STAMP} stderr F {LINE}")
    assert parser.feed(f"{STAMP} stderr F {LINE}")[0].values == BARE.values


def test_what_is_pending_is_bounded() -> None:
    partial = PartialLines()
    for stream in range(3 * MAX_STREAMS):
        partial.add(("", str(stream)), "x" * 100)

    assert len(partial) == MAX_STREAMS
    assert partial.complete(("", "0"), "y") == "y"
    assert partial.complete(("", str(3 * MAX_STREAMS - 1)), "y") == "x" * 100 + "y"


@pytest.mark.parametrize(
    "line",
    [
        "{", "[" * 5000, '{"a":' * 5000, '{"log": 7}', '{"log": null, "stream": "stderr"}', '{"MESSAGE": [300]}',
        '{"MESSAGE": ["a"]}', '{"log": "x", "stream": {}}', "[]", "{}", '{"log": ' + "9" * 5000 + "}", "\x1b", "\x1b[",
        "\0", "\ufeff", "\r", "\n", b"\xff\xfe", b"\x80Decode batch, \xff", "(", "(pid=", "[pod/", "2026-08-23T",
        json.dumps({"text": LINE}), json.dumps({"role": "user", "content": LINE}),
    ],
)  # fmt: skip
def test_hostile_line_says_nothing(line: str | bytes) -> None:
    assert LogParser().feed(line) == []
