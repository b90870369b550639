"""What is judged from the figures of a trial."""

from __future__ import annotations

from dataclasses import replace

import pytest

from djsup.core.canary import EARLY_FAILED, Trial, divergence
from djsup.core.events import Answers
from djsup.core.model import Canary, Generation

OLD, NEW = Generation(1), Generation(2)
WISHES = Canary(workers=1, seconds=10.0, max_error_rate=0.02, max_slowdown=2.0, min_requests=20)


def trial(
    new: tuple[int, int],
    old: tuple[int, int],
    *,
    new_s: float = 0.01,
    old_s: float = 0.01,
    wishes: Canary = WISHES,
) -> Trial:
    """A trial in which both sides have answered so many requests, so many of them failing."""
    found = Trial.begin(wishes, 1, 100.0)
    found.sampled(
        NEW,
        [
            Answers(OLD, *old, latency=((old_s, old[0]),) if old[0] else ()),
            Answers(NEW, *new, latency=((new_s, new[0]),) if new[0] else ()),
        ],
        110.0,
    )
    return found


def passed(found: Trial, now: float = 110.0) -> bool | None:
    verdict = found.judge(now)
    return None if verdict is None else verdict.passed


def test_code_that_always_fails_is_seen_after_five_answers() -> None:
    assert passed(trial((EARLY_FAILED, EARLY_FAILED), (100, 0)), 101.0) is False
    assert passed(trial((EARLY_FAILED - 1, EARLY_FAILED - 1), (100, 0)), 101.0) is None


def test_code_that_fails_no_more_often_than_the_old_passes() -> None:
    assert passed(trial((50, 50), (200, 200)), 101.0) is None, "the database is gone, for both"
    assert passed(trial((50, 50), (200, 200))) is True
    assert passed(trial((400, 4), (1200, 10))) is True


@pytest.mark.parametrize(("failed", "well"), [(0, True), (1, True), (2, True), (3, False), (9, False)])
def test_the_share_of_failed_answers_decides_when_the_time_is_over(failed: int, well: bool) -> None:
    assert passed(trial((100, failed), (400, 0))) is well


def test_a_single_failed_answer_rolls_nothing_back() -> None:
    assert passed(trial((20, 1), (80, 0))) is True


def test_too_few_requests_take_the_time_once_more_and_then_pass_with_these_words() -> None:
    found = trial((3, 0), (30, 0))
    assert passed(found) is None
    assert (found.extended, found.until) == (True, 120.0)
    assert passed(found, 119.9) is None
    found.sampled(NEW, (), 120.0)
    verdict = found.judge(120.0)
    assert verdict is not None
    assert verdict.passed
    assert verdict.why.startswith("too few requests to judge: new code: 3 requests, 0 failed")


def test_of_few_requests_those_that_cannot_fail_by_chance_count() -> None:
    assert passed(trial((4, 4), (30, 0))) is False


@pytest.mark.parametrize(
    ("new_s", "old_s", "well"),
    [
        (0.05, 0.01, False),
        (0.019, 0.01, True),
        (0.015, 0.001, False),
        (0.005, 0.001, True),
        (0.001, 0.05, True),
    ],
)
def test_latency_is_judged_by_a_factor_and_by_ten_milliseconds(
    new_s: float, old_s: float, well: bool
) -> None:
    assert passed(trial((30, 0), (90, 0), new_s=new_s, old_s=old_s)) is well


def test_latency_is_not_judged_with_a_factor_of_zero_or_too_few_of_the_old() -> None:
    assert passed(trial((30, 0), (90, 0), new_s=1.0, wishes=replace(WISHES, max_slowdown=0.0))) is True
    assert passed(trial((30, 0), (9, 0), new_s=1.0)) is True


def test_a_slow_tail_needs_a_hundred_requests() -> None:
    for requests, well in ((90, True), (100, False)):
        found = trial((requests - 10, 0), (requests, 0))
        found.sampled(NEW, [Answers(NEW, 10, 0, ((1.0, 10),))], 110.0)
        assert passed(found) is well, requests


def test_a_request_that_runs_too_long_ends_it_unless_the_old_code_has_one_too() -> None:
    found = trial((30, 0), (90, 0))
    found.new.add_overdue()
    assert passed(found, 101.0) is False
    found.old.add_overdue()
    assert passed(found, 101.0) is None


def test_the_sample_that_tells_of_the_end_is_waited_for() -> None:
    found = Trial.begin(WISHES, 1, 100.0)
    assert passed(found, 110.5) is None, "nothing was told yet, and that is not: no requests"
    found.sampled(NEW, [Answers(OLD, 90, 0), Answers(NEW, 30, 0)], 110.9)
    assert passed(found, 110.9) is True


def test_a_sample_that_does_not_come_is_not_waited_for_ever() -> None:
    found = trial((30, 0), (90, 0))
    found.sampled_at = 109.5
    assert passed(found) is None
    *_, last = found.deadlines()
    assert passed(found, last) is True


def test_no_more_take_part_than_the_surge_allows() -> None:
    assert Trial.begin(replace(WISHES, workers=4), 2, 0.0).workers == 2


def test_progress_is_for_people() -> None:
    assert trial((420, 0), (9, 0)).progress(106.0) == "6 of 10 s, 420 requests, 0 failed"


@pytest.mark.parametrize(
    ("rate", "allowed", "nats"), [(0.5, 0.5, 0.0), (0.1, 0.5, 0.0), (1.0, 0.02, 3.912), (0.5, 0.1, 0.5108)]
)
def test_divergence_is_the_relative_entropy_above_what_is_allowed(
    rate: float, allowed: float, nats: float
) -> None:
    assert divergence(rate, allowed) == pytest.approx(nats, abs=1e-3)
