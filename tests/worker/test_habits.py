"""What calls of a route did, the next is expected to do; a quick one unsays it."""

from __future__ import annotations

import pytest

from djsup_worker.habits import COMPUTES, CREDIT_MAX, QUICK_NS, ROUTES_MAX, WAITS, Habits
from djsup_worker.request import Line

LONG_NS = 10 * QUICK_NS


def line(path: str, method: str = "GET") -> Line:
    return Line({}, f"{method} {path}".encode(), is_head=False, is_http_1_0=False)


def test_a_route_is_known_once_a_call_of_it_waited() -> None:
    habits = Habits()
    assert habits.of(line("/report")) is None
    habits.seen(line("/report"), WAITS, LONG_NS)
    assert habits.of(line("/report")) == WAITS
    assert habits.of(line("/other")) is None
    assert habits.of(line("/report", "POST")) is None


def test_a_route_is_known_for_what_it_did_last() -> None:
    habits = Habits()
    habits.seen(line("/report"), WAITS, LONG_NS)
    habits.seen(line("/report"), COMPUTES, LONG_NS)
    assert habits.of(line("/report")) == COMPUTES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/orders/17", "/orders/18"),
        ("/orders/17/items/3", "/orders/4/items/99"),
        ("/o/6f9619ff-8b86-d011-b42d-00cf4fc964ff/", "/o/00000000-8b86-d011-b42d-00cf4fc964ff/"),
    ],
)
def test_segments_with_a_digit_are_one_and_the_same(one: str, other: str) -> None:
    habits = Habits()
    habits.seen(line(one), WAITS, LONG_NS)
    assert habits.of(line(other)) == WAITS


def test_a_route_that_waited_once_is_forgotten_at_the_first_quick_call() -> None:
    habits = Habits()
    habits.seen(line("/"), WAITS, LONG_NS)
    habits.seen(line("/"), WAITS, QUICK_NS - 1)
    assert not habits.known


def test_a_route_that_always_waited_outlives_a_few_quick_calls() -> None:
    habits = Habits()
    for _ in range(CREDIT_MAX * 3):
        habits.seen(line("/"), WAITS, LONG_NS)
    for _ in range(CREDIT_MAX - 1):
        habits.seen(line("/"), WAITS, 0)
    assert habits.of(line("/")) == WAITS
    habits.seen(line("/"), WAITS, 0)
    assert habits.of(line("/")) is None


def test_a_call_that_could_not_get_on_says_nothing_of_its_route() -> None:
    habits = Habits()
    habits.seen(line("/"), "starves", LONG_NS)
    assert not habits.known


def test_the_oldest_route_is_forgotten_when_there_are_too_many() -> None:
    habits = Habits()
    for name in range(ROUTES_MAX + 1):
        habits.seen(line("/" + "x" * (name + 1)), WAITS, LONG_NS)
    assert len(habits.known) == ROUTES_MAX
    assert habits.of(line("/x")) is None
    assert habits.of(line("/xx")) == WAITS
