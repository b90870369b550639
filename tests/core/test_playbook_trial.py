"""Plays: new code on trial, and the commands before and after a reload."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.playbook import (
    BLOG,
    HTTP,
    KILLED,
    OTHER,
    SHOP,
    Play,
    Said,
    changed,
    curtain_up,
    exited,
    like,
    loaded,
    ready,
    started,
)
from djsup.core.actions import (
    BindListener,
    DrainWorker,
    ForkWorker,
    KillProcess,
    NoticeKind,
    RunHook,
    StartTemplate,
)
from djsup.core.events import (
    Answers,
    Exit,
    GenerationsSampled,
    ListenerBound,
    ReloadAsked,
    RequestOverdue,
    SpawnFailed,
    StopAsked,
)
from djsup.core.model import (
    Address,
    AddressKind,
    Canary,
    Generation,
    ProcId,
    ReloadPolicy,
    SiteSettings,
    WorkerCount,
)
from djsup.core.snapshot import ReloadResult, SiteState

BY = "root (cli)"
THIRD = Address(AddressKind.TCP, "127.0.0.1", 8002)
ONE, TWO = Generation(1), Generation(2)
TRIED = replace(BLOG, reload=ReloadPolicy(surge=2, canary=Canary(workers=2, seconds=10.0)))
HOOKED = replace(BLOG, reload=ReloadPolicy(before="make check", after="make warm", hook_timeout_s=60.0))
GOOD = GenerationsSampled(BLOG.name, (Answers(ONE, 90, 0), Answers(TWO, 30, 0)))
REST = GenerationsSampled(BLOG.name, ())
BAD = GenerationsSampled(BLOG.name, (Answers(ONE, 90, 0), Answers(TWO, 9, 9)))


def result(play: Play) -> ReloadResult:
    report = play.site().last_reload
    assert report is not None
    return report.result


def on_trial(site: SiteSettings = TRIED, canary_s: float | None = None) -> Play:
    """Worker 5 of generation 2 serves beside 2 and 3 of generation 1."""
    play = curtain_up(site)
    play >> 20.0
    play >> ReloadAsked(site.name, BY, canary_s) << ... >> started(4) >> loaded(4) << ... >> started(5)
    play >> ready(5) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.CANARY_STARTED, "for ")
    return play


def test_new_workers_serve_beside_the_old_until_the_verdict() -> None:
    play = on_trial() << like(ForkWorker, proc=6, generation=2)
    play >> started(6) >> ready(6) << Said(NoticeKind.WORKER_READY)
    play >> GOOD >> 9.9
    assert play.site().state is SiteState.RELOADING
    report = play.site().last_reload
    assert report is not None
    assert (report.phase, report.canary) == ("trying", "10 of 10 s, 30 requests, 0 failed")
    play >> 0.2
    (
        play
        >> REST
        << Said(NoticeKind.CANARY_PASSED, "new code: 30 requests")
        << DrainWorker(ProcId(2), TWO, 30.0)
    )
    play << like(DrainWorker, proc=3) << Said(NoticeKind.RELOAD_DONE)
    play.done()
    report = play.site().last_reload
    assert report is not None
    assert "old code: 90 requests" in report.canary


def test_code_that_fails_is_rolled_back_at_once_and_no_old_worker_is_touched() -> None:
    play = on_trial() << ...
    play >> started(6) >> ready(6) << ...
    play >> BAD << Said(NoticeKind.RELOAD_ROLLED_BACK, "canary: the new code fails")
    drained = {each.proc for each in play.came if isinstance(each, DrainWorker)}
    play << ...
    assert drained == {5, 6}
    assert (play.site().generation, result(play)) == (1, ReloadResult.ROLLED_BACK)


@pytest.mark.parametrize("after_s", [0.5, 9.0])
def test_a_death_on_trial_rolls_back_whenever_it_comes(after_s: float) -> None:
    play = on_trial(replace(TRIED, limits=replace(TRIED.limits, stable_after_s=2.0))) << ...
    play >> after_s << ...
    play >> exited(5, KILLED) << Said(NoticeKind.WORKER_DIED) << Said(NoticeKind.RELOAD_ROLLED_BACK) << ...
    assert result(play) is ReloadResult.ROLLED_BACK


def test_a_request_too_long_on_trial_rolls_back() -> None:
    play = on_trial() << ...
    play >> RequestOverdue(ProcId(5), "GET", "/", 31.0) << ...
    assert result(play) is ReloadResult.ROLLED_BACK


def test_a_trial_can_be_asked_for_and_left_out_once() -> None:
    play = on_trial(BLOG, canary_s=30.0)
    report = play.site().last_reload
    assert report is not None
    assert report.canary.startswith("0 of 30 s")
    play = curtain_up(TRIED)
    play >> ReloadAsked(BLOG.name, BY, 0.0) << ... >> started(4) >> loaded(4) << ... >> started(5)
    play >> ready(5) << Said(NoticeKind.WORKER_READY) << like(DrainWorker, proc=2) << ...
    assert not play.said(NoticeKind.CANARY_STARTED)


MOVED = replace(TRIED, listen=(THIRD,), reload=ReloadPolicy(surge=2, canary=Canary(workers=1, seconds=300.0)))
ONE_SHOP = replace(SHOP, workers=WorkerCount(1, 1))
HEIR = replace(ONE_SHOP, listen=(HTTP,))


def both_serve() -> Play:
    """Blog on its address, and shop, of one worker, on the other."""
    play = curtain_up(TRIED)
    play >> changed(TRIED, ONE_SHOP) << ... >> ListenerBound(OTHER) << ...
    play >> started(4) >> loaded(4) << ... >> started(5) >> ready(5) << ... >> 20.0
    return play


def address_moves() -> Play:
    """Blog tries new code on another address for five minutes, and shop waits for the one that it leaves."""
    play = both_serve()
    play >> changed(MOVED, HEIR) << ... >> ListenerBound(THIRD) << like(StartTemplate, proc=6)
    play >> started(6) >> loaded(6) << ... >> started(7)
    play >> ready(7) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.CANARY_STARTED, "for 300 s")
    play >> 290.0
    assert play.site("shop").state is SiteState.RELOADING
    return play


def test_an_address_that_moves_is_awaited_until_the_verdict_of_a_trial() -> None:
    play = address_moves()
    play >> 10.0 >> GOOD << Said(NoticeKind.CANARY_PASSED) << ... >> started(8)
    play >> ready(8) << Said(NoticeKind.WORKER_READY) << ...
    assert BindListener(HTTP) in play.all[-3:]
    play >> ListenerBound(HTTP) << like(StartTemplate, site=HEIR)
    play.done()


def test_who_waits_for_an_address_that_a_trial_does_not_free_is_rolled_back() -> None:
    play = address_moves()
    play >> BAD << ... >> exited(6) >> exited(7) << ...
    assert result(play) is ReloadResult.ROLLED_BACK
    play >> BLOG.limits.boot_timeout_s << Said(NoticeKind.RELOAD_ROLLED_BACK, 'belongs to site "blog"') << ...
    assert play.site("shop").state is SiteState.SERVING


def test_sites_that_exchange_addresses_do_not_wait_for_each_other_for_ever() -> None:
    play = both_serve()
    play >> changed(replace(TRIED, listen=(OTHER,)), HEIR) << ...
    play >> BLOG.limits.boot_timeout_s << Said(NoticeKind.RELOAD_ROLLED_BACK, 'belongs to site "shop"') << ...
    assert {each.state for each in play.fleet.snapshot(play.now)} == {SiteState.SERVING}


def test_a_stop_and_a_newer_reload_end_a_trial() -> None:
    play = on_trial() << ...
    play >> ReloadAsked(BLOG.name, BY) << Said(NoticeKind.RELOAD_SUPERSEDED) << ...
    assert result(play) is ReloadResult.RUNNING
    play = on_trial() << ...
    play >> StopAsked(BY) << ...
    assert result(play) is ReloadResult.ROLLED_BACK


def test_a_trial_ends_when_the_old_code_cannot_serve_any_more() -> None:
    play = curtain_up(TRIED)
    (
        play
        >> ReloadAsked(BLOG.name, BY)
        << ...
        >> started(4)
        >> loaded(4)
        << ...
        >> started(5)
        >> ready(5)
        << ...
    )
    play >> exited(2, KILLED) << ... >> exited(3, KILLED) << Said(NoticeKind.WORKER_DIED)
    play << Said(NoticeKind.CANARY_PASSED, "no worker of the old code") << ...


def checking() -> Play:
    """Blog is asked to reload, and its command (process 4) runs."""
    play = curtain_up(HOOKED)
    assert not play.said(NoticeKind.HOOK_STARTED)
    play >> 20.0
    play >> ReloadAsked(BLOG.name, BY) << Said(NoticeKind.RELOAD_STARTED)
    play << Said(NoticeKind.HOOK_STARTED, "before_reload: make check")
    play << RunHook(ProcId(4), HOOKED, TWO, "before_reload", "make check")
    play >> started(4)
    return play


def test_the_code_is_loaded_after_the_command_has_ended_well() -> None:
    play = checking()
    play >> 1.5
    (
        play
        >> exited(4)
        << Said(NoticeKind.HOOK_ENDED, "after 1.5 s")
        << like(StartTemplate, proc=5, generation=2)
    )
    play.done()


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (exited(4, Exit(status=2, stderr=("W001",))), "exited with status 2"),
        (SpawnFailed(ProcId(4), "there is no program 'make'"), "no program 'make'"),
    ],
)
def test_a_command_that_fails_rolls_back_before_anything_is_loaded(ends: Exit, said: str) -> None:
    play = checking()
    play >> ends << Said(NoticeKind.RELOAD_ROLLED_BACK, said)  # type: ignore[operator]
    play.done()
    assert result(play) is ReloadResult.ROLLED_BACK


def test_a_command_has_its_time() -> None:
    play = checking()
    play >> 59.9
    play >> 0.2 << KillProcess(ProcId(4), "SIGKILL")
    play >> exited(4, KILLED) << Said(NoticeKind.RELOAD_ROLLED_BACK, "longer than hook_timeout (60 s)")
    play.done()


def test_a_newer_reload_kills_the_command_and_runs_its_own() -> None:
    play = checking()
    play >> ReloadAsked(BLOG.name, BY) << KillProcess(ProcId(4), "SIGKILL")
    play << Said(NoticeKind.HOOK_FAILED, "is killed") << Said(NoticeKind.RELOAD_SUPERSEDED)
    (
        play
        << Said(NoticeKind.RELOAD_STARTED)
        << Said(NoticeKind.HOOK_STARTED)
        << like(RunHook, proc=5, generation=3)
    )
    play >> exited(4, KILLED)
    play.done()


def test_a_stop_waits_for_a_command_to_be_gone() -> None:
    play = checking()
    play >> StopAsked(BY) << ...
    assert KillProcess(ProcId(4), "SIGKILL") in play.all
    play >> exited(1) << ... >> exited(2) << ... >> exited(3) << ...
    assert not play.fleet.done
    play >> exited(4, KILLED) << ...
    assert play.fleet.done


def test_the_command_afterwards_fails_without_rolling_back() -> None:
    play = checking() >> exited(4) << ... >> started(5) >> loaded(5) << ...
    play >> started(6) >> ready(6) << ... >> exited(2) << ... >> started(7) >> ready(7) << ...
    (command,) = [each for each in play.all if isinstance(each, RunHook) and each.name == "after_reload"]
    play >> exited(command.proc, Exit(status=1)) << Said(NoticeKind.HOOK_FAILED, "exited with status 1")
    assert result(play) is ReloadResult.DONE


def test_nothing_is_run_where_nothing_serves() -> None:
    play = Play()
    play >> changed(HOOKED) << ... >> ListenerBound(HTTP) << ... >> ReloadAsked(BLOG.name, BY) << ...
    assert not [each for each in play.all if isinstance(each, RunHook)]
