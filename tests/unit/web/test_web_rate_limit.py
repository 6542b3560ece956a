from __future__ import annotations

from hisparse_metrics.web.config import RateLimit
from hisparse_metrics.web.rate_limit import TokenBucket


def test_a_burst_then_one_per_interval() -> None:
    now = [0.0]
    bucket = TokenBucket(RateLimit(interval=2.0, burst=3), clock=lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 1.9
    assert not bucket.take()
    now[0] = 4.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_rest_fills_no_more_than_the_burst() -> None:
    now = [0.0]
    bucket = TokenBucket(RateLimit(interval=1.0, burst=2), clock=lambda: now[0])
    now[0] = 1e9
    assert [bucket.take() for _ in range(3)] == [True, True, False]
