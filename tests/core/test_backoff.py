from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from djsup.core.backoff import BASE_S, COUNT_MAX, JITTER, MOST_S, Backoff, delay_s, spread


def test_nothing_has_failed_so_nothing_waits() -> None:
    assert delay_s("blog", 0) == 0.0


def test_waits_double_up_to_the_most() -> None:
    for count in range(1, 9):
        base = BASE_S * 2**count
        assert base <= delay_s("blog", count) <= base * (1 + JITTER)
    assert MOST_S <= delay_s("blog", 9) <= MOST_S * (1 + JITTER)


@given(st.text(), st.integers(min_value=1, max_value=10**30))
def test_no_number_of_failures_overflows_anything(name: str, count: int) -> None:
    assert math.isfinite(delay_s(name, count))
    assert 0.2 <= delay_s(name, count) <= MOST_S * (1 + JITTER)


def test_failures_are_counted_up_to_a_limit() -> None:
    backoff = Backoff("blog")
    for now in range(2 * COUNT_MAX):
        backoff.failed(float(now))
    assert backoff.count == COUNT_MAX
    assert backoff.next_at is not None
    assert backoff.next_at - (2 * COUNT_MAX - 1) <= MOST_S * (1 + JITTER)


def test_jitter_is_the_same_each_time_and_differs_between_sites() -> None:
    waits = {delay_s(f"site{number}", 5) for number in range(100)}
    assert waits == {delay_s(f"site{number}", 5) for number in range(100)}
    assert len(waits) > 90
    assert max(waits) - min(waits) > 0.9 * JITTER * BASE_S * 2**5 * 0.9


def test_spread_stays_within_its_share() -> None:
    assert all(1.0 <= spread("blog", slot, 0.1) < 1.1 for slot in range(128))


def test_reset_ends_the_row_and_hurry_does_not() -> None:
    backoff = Backoff("blog")
    backoff.failed(10.0)
    assert not backoff.allows(10.1)
    assert backoff.allows(11.0)
    backoff.hurry()
    assert backoff.allows(10.1)
    assert backoff.count == 1
    backoff.reset()
    assert (backoff.count, backoff.next_at) == (0, None)
