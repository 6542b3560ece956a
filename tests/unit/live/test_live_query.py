from __future__ import annotations

import pytest

from hisparse_metrics.live.query import WINDOWS, Cursor, Query, QueryError

CURSOR = Cursor("abcd12340", "15m.all", 12, 3)


def test_nothing_asked_is_the_last_quarter_of_an_hour_of_all() -> None:
    query = Query.parse("")
    assert (query.window.name, query.rank, query.since) == ("15m", "all", None)


def test_everything_asked_is_understood() -> None:
    query = Query.parse(f"window=6h&rank=0123456789ab&since={CURSOR}")
    assert (query.window.seconds, query.rank, query.since) == (21600, "0123456789ab", CURSOR)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window=2h", "choose one of 15m, 1h, 6h, 24h"),
        ("window=", "choose one of"),
        ("rank=0", "give 'all', or an id"),
        ("rank=../../etc/passwd", "give 'all', or an id"),
        ("since=yesterday", "give the cursor of an earlier answer"),
        ("since=-1", "give the cursor of an earlier answer"),
        ("since=a-15m.all-1-" + "9" * 99, "give the cursor of an earlier answer"),
        ("step=1", "'step' is no parameter: choose from window, rank, since"),
        ("window=1h&window=6h", "given twice"),
        ("window", "write it as window=15m"),
        ("&".join(["window=1h"] * 20), "write it as window=15m"),
        ("rank=" + "a" * 300, "too long"),
        ("window=%0d%0aX:%20y", "choose one of"),
        ("rank=%F0%9F%92%A9", "give 'all', or an id"),
    ],
)
def test_what_is_not_understood_is_said_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(QueryError) as error:
        Query.parse(text)
    message = str(error.value)
    assert words in message
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 150


def test_no_window_has_more_rows_than_its_tier_keeps() -> None:
    for window in WINDOWS.values():
        assert window.seconds <= window.tier.seconds * window.tier.capacity
