"""A change-over rests after each worker that has come or gone: what that costs is not all at one time."""

from __future__ import annotations

import pytest

from core.playbook import BLOG, KILLED, Play, Said, curtain_up, exited, like, loaded, ready, started
from djsup.core.actions import DrainWorker, ForkWorker, NoticeKind, StartTemplate
from djsup.core.events import Event, ReloadAsked, RollbackAsked, ScaleAsked
from djsup.core.model import Generation, ProcId
from djsup.core.workers import REST_S, RESTS_S

RELOAD = ReloadAsked(BLOG.name, "root (cli)")
BACK = RollbackAsked(BLOG.name, "root (cli)")
ONE, TWO = Generation(1), Generation(2)
ALMOST_S, REST_OF_IT_S = REST_S - 0.01, 0.02


def changing_over() -> Play:
    """Worker 5 of generation 2 serves beside workers 2 and 3 of generation 1, and nobody was told to go."""
    play = curtain_up()
    play >> 20.0
    play >> RELOAD << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, proc=4, generation=2)
    play >> started(4)
    play >> loaded(4) << like(ForkWorker, proc=5, template=4, generation=2)
    play >> started(5)
    play >> ready(5) << Said(NoticeKind.WORKER_READY)
    return play


def test_after_each_worker_that_came_or_went_there_is_a_rest() -> None:
    play = changing_over()
    play >> ALMOST_S
    play >> REST_OF_IT_S << DrainWorker(ProcId(2), TWO, 30.0)
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    play >> ALMOST_S
    play >> REST_OF_IT_S << like(ForkWorker, proc=6, template=4, generation=2)
    play >> started(6)
    play >> ready(6) << Said(NoticeKind.WORKER_READY)
    play >> ALMOST_S
    play >> REST_OF_IT_S << DrainWorker(ProcId(3), TWO, 30.0) << Said(NoticeKind.RELOAD_DONE)
    play >> exited(3) << Said(NoticeKind.WORKER_DRAINED)
    play >> 1.0
    play.done()


def test_nobody_rests_while_fewer_serve_than_are_promised() -> None:
    play = changing_over()
    play >> REST_S << DrainWorker(ProcId(2), TWO, 30.0)
    play >> exited(3, KILLED) << Said(NoticeKind.WORKER_DIED) << like(ForkWorker, generation=2)


def test_a_rollback_does_not_rest() -> None:
    play = changing_over()
    play >> REST_S << ... >> exited(2) << ... >> REST_S << ... >> started(6) >> ready(6) << ...
    play >> REST_S << ... >> exited(3) << ...
    play >> BACK << Said(NoticeKind.RELOAD_STARTED) << like(ForkWorker, proc=7, template=1, generation=1)
    play >> started(7)
    play >> ready(7) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(5), ONE, 30.0)
    play >> exited(5) << Said(NoticeKind.WORKER_DRAINED) << like(ForkWorker, proc=8, template=1)
    play.done()


def test_code_that_fails_in_the_change_over_is_left_without_a_rest() -> None:
    play = changing_over()
    play >> REST_S << ... >> exited(2) << ... >> REST_S << ... >> started(6)
    play >> exited(6, KILLED) << Said(NoticeKind.WORKER_FAILED) << Said(NoticeKind.RELOAD_ROLLED_BACK)
    play << like(ForkWorker, proc=7, template=1, generation=1) << ...


def answered(play: Play) -> None:
    """Whoever is to come is there at once, and whoever is to go has gone."""
    todo = list(play.came)
    play << ...
    while todo:
        match todo.pop(0):
            case ForkWorker(proc=proc):
                events: tuple[Event, ...] = (started(proc), ready(proc))
            case DrainWorker(proc=proc):
                events = (exited(proc),)
            case _:
                continue
        for event in events:
            play >> event
            todo += play.came
            play << ...


@pytest.mark.parametrize(("workers", "rests_s"), [(2, 3 * REST_S), (40, RESTS_S)])
def test_a_reload_of_many_workers_rests_for_a_second_in_all(workers: int, rests_s: float) -> None:
    play = curtain_up()
    play >> ScaleAsked(BLOG.name, workers, "root (cli)")
    answered(play)
    play >> 20.0
    play >> RELOAD << ...
    template = play.asked(StartTemplate)
    began_at = play.now
    play >> started(template) >> loaded(template)
    while not play.said(NoticeKind.RELOAD_DONE):
        answered(play)
        play >> 0.001
    assert play.now - began_at == pytest.approx(rests_s, rel=0.1)
