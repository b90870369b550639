"""What the generations of a site have answered between two looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from djsup.core.model import Generation, ProcId, SiteName
from djsup.performer import Process
from djsup.trials import Trials
from djsup_worker import scoreboard
from djsup_worker.scoreboard import Row

BLOG = SiteName("blog")


@dataclass
class Counted:
    """As much of a scoreboard's row as is looked at."""

    requests: int = 0
    classes: tuple[int, ...] = (0, 0, 0, 0, 0)
    histogram: tuple[int, ...] = (0,) * scoreboard.HISTOGRAM_BUCKETS


def row(requests: int, failed: int = 0) -> Row:
    histogram = (requests, *(0,) * (scoreboard.HISTOGRAM_BUCKETS - 1))
    return cast("Row", Counted(requests, (0, requests - failed, 0, 0, failed), histogram))


def worker(proc: int, generation: int, *, ready: bool = True) -> Process:
    nothing: Any = None
    return Process(ProcId(proc), BLOG, Generation(generation), proc, nothing, ready=ready)


OLD, NEW = worker(1, 1), worker(2, 2)


def test_one_generation_is_nothing_to_compare() -> None:
    trials = Trials()
    assert trials.look(BLOG, [(OLD, row(9)), (worker(3, 1), row(9))]) is None
    assert trials.look(BLOG, [(OLD, row(9)), (worker(3, 2, ready=False), row(1))]) is None


def test_a_first_look_of_all_only_says_where_counting_begins() -> None:
    trials = Trials()
    assert trials.look(BLOG, [(OLD, row(500, 5)), (NEW, row(3, 1))]) is None
    then = trials.look(BLOG, [(OLD, row(520, 6)), (NEW, row(7, 1))])
    assert then is not None
    assert [(each.requests, each.failed) for each in then.answers] == [(20, 1), (4, 0)]


def test_the_new_generation_counts_from_its_beginning_and_the_old_from_then_on() -> None:
    trials = Trials()
    trials.look(BLOG, [(OLD, row(500, 5))])
    first = trials.look(BLOG, [(OLD, row(500, 5)), (NEW, row(3, 1))])
    assert first is not None
    assert [(each.generation, each.requests, each.failed) for each in first.answers] == [(1, 0, 0), (2, 3, 1)]
    then = trials.look(BLOG, [(OLD, row(520, 6)), (NEW, row(7, 1))])
    assert then is not None
    assert [(each.requests, each.failed) for each in then.answers] == [(20, 1), (4, 0)]
    assert then.answers[1].latency == ((scoreboard.bucket_middle_s(0), 4),)


def test_what_the_old_one_did_since_the_last_look_counts_as_what_the_new_one_did_since_it_serves() -> None:
    trials = Trials()
    trials.look(BLOG, [(OLD, row(500, 5))])
    first = trials.look(BLOG, [(OLD, row(520, 6)), (NEW, row(3, 1))])
    assert first is not None
    assert [(each.generation, each.requests, each.failed) for each in first.answers] == [
        (1, 20, 1),
        (2, 3, 1),
    ]


def test_what_a_worker_did_before_it_died_counts() -> None:
    trials = Trials()
    trials.look(BLOG, [(OLD, row(500)), (NEW, row(0))])
    trials.retire(OLD, row(510, 4))
    then = trials.look(BLOG, [(worker(3, 1), row(2)), (NEW, row(1))])
    assert then is not None
    assert [(each.requests, each.failed) for each in then.answers] == [(12, 4), (1, 0)]


def test_figures_that_go_back_count_as_nothing() -> None:
    trials = Trials()
    trials.look(BLOG, [(OLD, row(500)), (NEW, row(50, 50))])
    then = trials.look(BLOG, [(OLD, row(1)), (NEW, row(0))])
    assert then is not None
    assert {(each.requests, each.failed) for each in then.answers} == {(0, 0)}
