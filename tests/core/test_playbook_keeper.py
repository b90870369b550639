"""Programs and the daemon's death, as plays: the keeper that holds them, and what the next daemon makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from core.playbook import (
    BLOG,
    HTTP,
    KILLED,
    Play,
    Said,
    changed,
    exited,
    like,
    loaded,
    ready,
    started,
)
from core.test_playbook_adoption import left
from core.test_playbook_programs import CELERY, SESSIONS, program, with_programs
from djsup.core.actions import (
    ForkWorker,
    KillProcess,
    NoticeKind,
    Quit,
    StartKeeper,
    StartProgram,
    StartTemplate,
)
from djsup.core.estate import Estate
from djsup.core.events import (
    Exit,
    ListenerBound,
    ProgramSaid,
    ReloadAsked,
    Replaced,
    RunAsked,
    SitesAdopted,
    StopAsked,
    TemplateFailed,
)
from djsup.core.fleet import ProcessKind
from djsup.core.memory import ProcessLeft
from djsup.core.model import Generation, ProcId, ProgramSettings, ScalingPolicy, SiteSettings, WorkerCount
from djsup.core.program import State
from djsup.core.snapshot import SiteState

ESTATE = TypeAdapter(Estate)
KEEPER, TEMPLATE, WORKERS = 1, 2, (3, 4)
FIRST = 5
"""The first program."""


def on_stage(*programs: ProgramSettings) -> Play:
    """Blog serves with generation 1, there is a keeper, and its programs run as processes from 5 on."""
    play = Play()
    play >> changed(with_programs(*programs), grace_s=60.0) << StartKeeper(ProcId(KEEPER)) << ...
    play >> started(KEEPER) << Said(NoticeKind.KEEPER_STARTED)
    play >> ListenerBound(HTTP) << ... >> started(TEMPLATE) >> loaded(TEMPLATE) << ...
    play >> started(3) >> ready(3) << ...
    play >> started(play.asked(ForkWorker)) >> ready(play.asked(ForkWorker)) << ...
    for each in [each for each in play.all if isinstance(each, StartProgram)]:
        play >> started(each.proc) << ...
    return play


def adopted(
    before: Play, change: Callable[[ProcessLeft], ProcessLeft] = lambda process: process, after_s: float = 1.0
) -> Play:
    """Another daemon, which knows no more than what can be written down; the shell has found the programs so."""
    estate = ESTATE.validate_json(ESTATE.dump_json(left(before)))
    assert estate.programs is not None
    play = Play(now=before.now + after_s)
    estate = replace(estate, programs=estate.programs.with_processes(change))
    return play >> SitesAdopted((estate,)) << ...


def gone(process: ProcessLeft) -> ProcessLeft:
    return replace(process, pid=None)


def programs_started(play: Play) -> list[ProcId]:
    return [each.proc for each in play.all if isinstance(each, StartProgram)]


# --- the keeper -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("site", "grace_s"), [(BLOG, 60.0), (with_programs(CELERY), 0.0)])
def test_without_programs_or_a_grace_there_is_no_keeper(site: SiteSettings, grace_s: float) -> None:
    play = Play()
    play >> changed(site, grace_s=grace_s) << ...
    assert not [each for each in play.all if isinstance(each, StartKeeper)]


def test_a_keeper_is_there_before_the_program_that_it_is_to_keep() -> None:
    other = Play()
    (
        other
        >> changed(BLOG, grace_s=60.0)
        << ...
        >> ListenerBound(HTTP)
        << ...
        >> started(1)
        >> loaded(1)
        << ...
    )
    other >> started(2) >> ready(2) << ...
    other >> changed(with_programs(CELERY), grace_s=60.0) << like(StartKeeper) << like(StartProgram) << ...
    view = other.fleet.process(next(each.proc for each in other.all if isinstance(each, StartKeeper)))
    assert view is not None
    assert view.kind is ProcessKind.KEEPER


def test_a_keeper_that_dies_is_started_again_and_one_that_dies_young_waits() -> None:
    play = on_stage(CELERY)
    play >> 2.0 >> exited(KEEPER, KILLED) << like(StartKeeper) << Said(NoticeKind.KEEPER_DIED, "SIGKILL")
    young = next(each.proc for each in reversed(play.all) if isinstance(each, StartKeeper))
    play >> started(young) << ... >> exited(young, KILLED) << Said(NoticeKind.KEEPER_DIED)
    play >> 0.3 << like(StartKeeper)
    play.done()


def test_the_keeper_ends_after_the_programs_and_before_the_daemon() -> None:
    play = on_stage(CELERY)
    play >> StopAsked("me", at_once=True) << ...
    assert KillProcess(ProcId(KEEPER), "SIGTERM") not in play.all
    for each in (TEMPLATE, *WORKERS):
        play >> exited(each, KILLED) << ...
    (
        play
        >> exited(FIRST, KILLED)
        << KillProcess(ProcId(KEEPER), "SIGTERM")
        << Said(NoticeKind.PROGRAM_STOPPED)
        << ...
    )
    play >> exited(KEEPER) << Quit()
    play.done()


def test_a_keeper_that_is_stuck_does_not_keep_the_daemon_from_ending() -> None:
    play = on_stage(CELERY)
    play >> StopAsked("me", at_once=True) << ...
    for each in (TEMPLATE, *WORKERS, FIRST):
        play >> exited(each, KILLED) << ...
    play >> 30.0 << KillProcess(ProcId(KEEPER), "SIGKILL")
    play >> exited(KEEPER, KILLED) << Quit()


def test_the_keeper_stays_as_long_as_anything_lives_that_was_started_for_it() -> None:
    play = on_stage(CELERY)
    play >> changed(with_programs(CELERY), grace_s=0.0) << Said(NoticeKind.SETTINGS_CHANGED)
    (
        play
        >> changed(BLOG, grace_s=0.0)
        << KillProcess(ProcId(FIRST), "SIGQUIT")
        << Said(NoticeKind.SETTINGS_CHANGED)
    )
    play >> exited(FIRST) << KillProcess(ProcId(KEEPER), "SIGTERM") << Said(NoticeKind.PROGRAM_STOPPED)
    play >> exited(KEEPER)
    play.done()


@pytest.mark.parametrize("other_version", [False, True])
def test_another_program_of_the_daemon_goes_on_with_the_keeper_or_replaces_it(other_version: bool) -> None:
    before = on_stage(CELERY)
    sites, last_proc, dashboard, keeper = before.fleet.bequest()
    assert before.fleet.settings is not None
    play = Play(now=before.now + 1.0)
    play >> SitesAdopted(sites, Replaced(before.fleet.settings, last_proc, dashboard, other_version, keeper))
    if other_version:
        play << KillProcess(ProcId(KEEPER), "SIGTERM")
        play >> exited(KEEPER) << like(StartKeeper)
    play.done()


def test_a_sign_of_life_is_nothing_to_be_written_down() -> None:
    play = on_stage(replace(CELERY, notify=True, start_timeout_s=5.0, watchdog_s=10.0))
    play >> ProgramSaid(ProcId(FIRST), ready=True) << ...
    before = left(play)
    play >> 1.0 >> ProgramSaid(ProcId(FIRST), alive=True, status="cooks")
    assert left(play) == before


# --- the next daemon ------------------------------------------------------------------------------


def test_programs_are_taken_over_as_they_are() -> None:
    play = adopted(on_stage(CELERY, replace(CELERY, name="beat")))
    assert "2 workers, 2 programs, generation 1" in play.said(NoticeKind.SITE_ADOPTED)[0]
    assert [each for each in play.all if isinstance(each, StartKeeper)], (
        "they are in danger until there is one"
    )
    play >> changed(with_programs(CELERY, replace(CELERY, name="beat")), grace_s=60.0)
    play << Said(NoticeKind.SITE_SERVING)
    play >> 300.0
    play.done()
    shown = program(play)
    assert (shown.pid, shown.state, shown.uptime_s) == (100 + FIRST, "running", 301.0)
    view = play.fleet.process(ProcId(FIRST + 1))
    assert view is not None
    assert view.kind is ProcessKind.PROGRAM


def test_one_that_dies_after_its_adoption_is_started_again_and_failures_are_counted_on() -> None:
    before = on_stage(CELERY)
    for _ in range(3):
        proc = programs_started(before)[-1]
        before >> exited(proc, Exit(1)) << ... >> 30.0 << ...
        before >> started(programs_started(before)[-1]) << ...
    play = adopted(before)
    play >> changed(with_programs(CELERY), grace_s=60.0) << ...
    (
        play
        >> exited(programs_started(before)[-1], Exit())
        << Said(NoticeKind.PROGRAM_DIED, "exit status is not known")
    )
    waits = program(play).next_try_s
    assert waits is not None
    assert waits > 1.0
    play >> waits << like(StartProgram, program=CELERY)


def test_one_that_waits_for_its_next_try_waits_on() -> None:
    before = on_stage(CELERY)
    before >> exited(FIRST, Exit(1)) << ...
    play = adopted(before, after_s=0.05)
    play >> changed(with_programs(CELERY), grace_s=60.0) << like(StartKeeper) << Said(NoticeKind.SITE_SERVING)
    play >> 1.0 << like(StartProgram, program=CELERY)


def test_one_that_is_gone_is_started_anew_and_it_is_no_failure_of_its_own() -> None:
    play = adopted(on_stage(CELERY), gone)
    assert "was gone when this daemon came" in play.said(NoticeKind.PROGRAM_STOPPED)[0]
    (
        play
        >> changed(with_programs(CELERY), grace_s=60.0)
        << like(StartKeeper)
        << like(StartProgram, program=CELERY)
    )
    play << Said(NoticeKind.SITE_SERVING)
    play.done()
    assert programs_started(play) == [ProcId(FIRST + 1)], "a name is never used twice"
    assert not play.said(NoticeKind.PROGRAM_DIED)


def test_one_that_was_just_asked_for_is_known_by_its_name() -> None:
    before = on_stage(CELERY)
    before >> 20.0 >> exited(FIRST, Exit(1)) << ...
    (_, newest) = programs_started(before)
    play = adopted(before, lambda process: replace(process, pid=999))  # type: ignore[arg-type]
    play >> changed(with_programs(CELERY), grace_s=60.0) << ...
    assert (program(play).pid, program(play).state) == (999, "running")
    assert programs_started(play) == []
    play >> exited(newest) << Said(NoticeKind.PROGRAM_DIED) << ...


@pytest.mark.parametrize(
    ("other", "ended"),
    [(replace(CELERY, command="other"), True), (replace(CELERY, stop_timeout_s=1.0), False)],
)
def test_settings_that_changed_meanwhile_are_as_with_a_reload(other: ProgramSettings, ended: bool) -> None:
    play = adopted(on_stage(CELERY))
    play >> changed(with_programs(other), grace_s=60.0) << ...
    assert (KillProcess(ProcId(FIRST), "SIGQUIT") in play.all) is ended
    if ended:
        play >> exited(FIRST) << Said(NoticeKind.PROGRAM_STOPPED) << like(StartProgram, program=other)


def test_programs_of_a_reload_that_was_rolled_back_are_tried_again_as_the_reload_is() -> None:
    before, other = on_stage(CELERY), replace(CELERY, command="other")
    before >> changed(with_programs(other), reload=(BLOG.name,), grace_s=60.0) << ...
    template = before.asked(StartTemplate)
    before >> started(template) >> TemplateFailed(template, "broken", "") << ...
    before >> exited(template, Exit(3)) << ...
    assert program(before).pid == 100 + FIRST
    play = adopted(before)
    play >> changed(with_programs(other), grace_s=60.0) << KillProcess(ProcId(FIRST), "SIGQUIT") << ...


def test_a_command_that_runs_is_not_run_again_and_its_time_goes_on() -> None:
    hourly = replace(SESSIONS, timeout_s=30.0)
    before = on_stage(hourly)
    before >> RunAsked(BLOG.name, "sessions", "schedule") << ... >> started(FIRST) >> 10.0
    play = adopted(before)
    play >> changed(with_programs(hourly), grace_s=60.0) << Said(NoticeKind.SITE_SERVING)
    play >> RunAsked(BLOG.name, "sessions", "me") << Said(NoticeKind.PROGRAM_SKIPPED, "is not over yet")
    play >> 18.0
    play >> 1.0 << KillProcess(ProcId(FIRST), "SIGTERM")
    play >> exited(FIRST, Exit()) << Said(NoticeKind.PROGRAM_FINISHED, "took longer than timeout")
    assert programs_started(play) == []


@pytest.mark.parametrize("found", [gone, lambda process: process])
def test_how_an_adopted_command_has_ended_is_not_known(found: Callable[[ProcessLeft], ProcessLeft]) -> None:
    before = on_stage(SESSIONS)
    before >> RunAsked(BLOG.name, "sessions", "schedule") << ... >> started(FIRST)
    play = adopted(before, found)
    if found is not gone:
        play >> exited(FIRST, Exit()) << ...
    play >> changed(with_programs(SESSIONS), grace_s=60.0) << ...
    shown = program(play, "sessions")
    assert (shown.state, shown.runs, shown.last_well) == ("waiting", 1, None)
    assert "its exit status is not known" in (shown.last_result or "")
    again = adopted(play)
    again >> changed(with_programs(SESSIONS), grace_s=60.0) << ...
    assert program(again, "sessions").last_result == shown.last_result


def test_one_that_boots_and_one_that_shows_its_life_get_their_time_anew() -> None:
    slow = replace(CELERY, notify=True, start_timeout_s=5.0)
    before = on_stage(slow, replace(CELERY, name="alive", watchdog_s=5.0))
    play = adopted(before, after_s=60.0)
    play >> changed(with_programs(slow, replace(CELERY, name="alive", watchdog_s=5.0)), grace_s=60.0) << ...
    play >> 4.9
    play >> 0.2 << KillProcess(ProcId(FIRST), "SIGQUIT") << KillProcess(ProcId(FIRST + 1), "SIGABRT")


def test_one_that_was_told_to_end_is_killed_in_time_and_started_anew() -> None:
    play = adopted(on_stage(CELERY), lambda process: replace(process, state=State.ENDING, end_asked=True))
    play >> changed(with_programs(CELERY), grace_s=60.0) << Said(NoticeKind.SITE_SERVING)
    play >> 6.9
    play >> 0.2 << KillProcess(ProcId(FIRST), "SIGKILL")
    play >> exited(FIRST, Exit()) << Said(NoticeKind.PROGRAM_STOPPED) << like(StartProgram)


def test_a_reload_that_follows_an_adoption_is_one_for_programs() -> None:
    play = adopted(on_stage(CELERY))
    play >> changed(with_programs(CELERY), grace_s=60.0) << ... >> ReloadAsked(BLOG.name, "me") << ...
    assert program(play).pid == 100 + FIRST


def test_programs_of_a_site_of_which_nothing_else_is_left_go_on_while_it_starts() -> None:
    before = on_stage(CELERY)
    estate = replace(left(before), serving=None, templates=(), workers=())
    play = Play(now=before.now + 1.0)
    play >> SitesAdopted((estate,)) << like(StartKeeper)
    play << Said(NoticeKind.SITE_ADOPTED, "1 program of it and nothing that serves")
    play >> changed(with_programs(CELERY), grace_s=60.0) << ... >> ListenerBound(HTTP) << ...
    assert program(play).pid == 100 + FIRST
    template = play.asked(StartTemplate)
    play >> started(template) >> loaded(template) << ...
    worker = play.asked(ForkWorker)
    play >> started(worker) >> ready(worker) << ...
    assert KillProcess(ProcId(FIRST), "SIGQUIT") in play.all, "it has loaded its code anew: that is a reload"
    play >> exited(FIRST) << ...
    assert next(each for each in play.all if isinstance(each, StartProgram)).generation == Generation(2)


def test_a_site_that_sleeps_cold_is_not_woken_for_its_programs() -> None:
    sleepy = replace(
        with_programs(CELERY), workers=WorkerCount(0, 2), scaling=ScalingPolicy(start_asleep=True)
    )
    before = on_stage(CELERY)
    estate = replace(left(before), settings=sleepy, serving=None, templates=(), workers=())
    play = Play(now=before.now + 1.0)
    play >> SitesAdopted((estate,)) << ...
    play >> changed(sleepy, grace_s=60.0) << ... >> ListenerBound(HTTP) << ...
    assert play.site().state is SiteState.SLEEPING
    play >> 60.0
    assert program(play).pid == 100 + FIRST
