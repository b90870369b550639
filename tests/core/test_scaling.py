"""What a load asks for: quick up, slow down, and no flapping."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from djsup.core.events import LoadSampled
from djsup.core.model import SiteName, WorkerCount
from djsup.core.scaling import FULL, WORKERS_MAX, Scaling, clamp

COUNT = WorkerCount(1, 8)
THREADS = 4
DOWN_S = 60.0


def numbers(scaling: Scaling, demands: Iterable[int], *, cores: float = 0.0) -> list[int]:
    """The number of workers after each second in which so many requests want to run; all that are wanted serve."""
    found = []
    for second, demand in enumerate(demands):
        serving = scaling.number(COUNT)
        busy = min(demand, serving * THREADS)
        sample = LoadSampled(SiteName("blog"), busy, demand - busy, min(cores, serving))
        scaling.weigh(sample, COUNT, THREADS, serving, DOWN_S, 1000.0 + second)
        found.append(scaling.number(COUNT))
    return found


def test_one_busy_second_is_chance_and_two_bring_a_worker() -> None:
    scaling = Scaling()
    assert numbers(scaling, [4, 0, 4, 0, 4, 3, 4]) == [1] * 7
    assert numbers(scaling, [4, 4]) == [2, 2]
    assert scaling.why == "all 4 threads busy"


def test_waiting_connections_bring_as_many_as_they_need_but_no_more_than_twice_as_many() -> None:
    scaling = Scaling()
    assert numbers(scaling, [30] * 9) == [1, 2, 2, 4, 4, 8, 8, 8, 8]
    assert scaling.why == "16 of 16 threads busy, connections waiting: 14"


def test_workers_that_use_a_core_each_are_busy_though_their_threads_are_not() -> None:
    scaling = Scaling()
    assert numbers(scaling, [1] * 6, cores=2.5)[-1] == 3
    assert scaling.why == "its workers use 2.0 cores"


def test_workers_on_their_way_are_waited_for() -> None:
    scaling = Scaling()
    sample = LoadSampled(SiteName("blog"), THREADS, 10)
    for second in range(20):
        scaling.weigh(sample, COUNT, THREADS, 1, DOWN_S, float(second))
    assert scaling.number(COUNT) == 2


def test_workers_go_after_a_minute_of_less_need_and_those_stay_that_were_needed_in_it() -> None:
    scaling = Scaling(wanted=8)
    found = numbers(scaling, [3] * 30 + [10] + [3] * 60)
    assert found[:60] == [8] * 60
    assert found[60:] == [4] * 31
    assert scaling.why == "no more were needed for 60 s"


def test_need_in_between_begins_the_minute_anew() -> None:
    scaling = Scaling(wanted=2)
    assert set(numbers(scaling, ([1] * 50 + [7]) * 10)) == {2}


@pytest.mark.parametrize("demand", range(0, 45, 2))
def test_constant_load_is_answered_in_one_direction_and_then_by_nothing(demand: int) -> None:
    for start in (1, 2, 4, 8):
        found = numbers(Scaling(wanted=start), [demand] * 150)
        steps = [
            after - before for before, after in zip([start, *found], found, strict=False) if after != before
        ]
        assert len({step > 0 for step in steps}) <= 1, (start, found)
        assert len(set(found[80:])) == 1
        assert demand < found[-1] * THREADS or found[-1] == COUNT.most
        assert found[-1] == COUNT.least or demand / THREADS > (found[-1] - 1) * FULL


@pytest.mark.parametrize("seed", range(8))
def test_noise_whose_peaks_return_within_down_after_changes_nothing_in_the_long_run(seed: int) -> None:
    dice = random.Random(seed)
    middle, width = dice.randint(0, 24), dice.randint(0, 8)
    demands = [max(0, middle + dice.randint(-width, width)) for _ in range(1500)]
    for at in range(0, 1500, 45):
        demands[at] = demands[at + 1] = middle + width
    found = numbers(Scaling(wanted=dice.randint(1, 8)), demands)
    assert len(set(found[200:])) == 1, (middle, width)


def test_any_load_whatsoever_lets_workers_go_no_more_often_than_once_in_down_after() -> None:
    dice = random.Random(1)
    found = numbers(Scaling(), [dice.choice([0, 5, 40]) if at % 90 < 30 else 0 for at in range(3000)])
    downs = [at for at in range(1, len(found)) if found[at] < found[at - 1]]
    assert downs
    assert all(later - earlier >= DOWN_S for earlier, later in pairwise(downs))


def test_what_stands_in_a_scoreboard_cannot_ask_for_more_than_max() -> None:
    scaling = Scaling()
    sample = LoadSampled(SiteName("blog"), 10**15, 10**15, 1e300)
    for second in range(100):
        scaling.weigh(sample, WorkerCount(1, 500), 1, WORKERS_MAX, DOWN_S, float(second))
    assert scaling.number(WorkerCount(1, 500)) == WORKERS_MAX


def test_bounds_bind_and_a_fixed_number_is_no_bound_for_what_is_asked_by_hand() -> None:
    assert [clamp(number, WorkerCount(2, 5)) for number in (-1, 0, 3, 9)] == [2, 2, 3, 5]
    assert [clamp(number, WorkerCount(0, 5)) for number in (-1, 0, 9)] == [1, 1, 5]
    assert [clamp(number, WorkerCount(2, 2)) for number in (0, 9, 1000)] == [1, 9, WORKERS_MAX]
