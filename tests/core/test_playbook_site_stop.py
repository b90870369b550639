"""One site is stopped and started, as a play; all others serve on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter

from core.playbook import (
    BLOG,
    HTTP,
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
    settings,
    started,
)
from djsup.core.actions import (
    BindListener,
    CloseListener,
    CloseRoute,
    DrainWorker,
    ForgetGeneration,
    ForgetSite,
    ForkWorker,
    KillProcess,
    NoticeKind,
    OpenRoute,
    Quit,
    StartProgram,
    StartTemplate,
)
from djsup.core.estate import Estate
from djsup.core.events import (
    ListenerBound,
    LoadSampled,
    ReloadAsked,
    Replaced,
    RestartAsked,
    RollbackAsked,
    RunAsked,
    ScaleAsked,
    SettingsChanged,
    SitesAdopted,
    SiteStartAsked,
    SiteStopAsked,
    StopAsked,
)
from djsup.core.model import Generation, ProcId, ProgramSettings, ScalingPolicy, SiteName, WorkerCount
from djsup.core.snapshot import ReloadResult, SiteState

if TYPE_CHECKING:
    from djsup.core.events import Event

ONE, TWO = Generation(1), Generation(2)
STOP = SiteStopAsked(BLOG.name, "anna (cli)")
START = SiteStartAsked(BLOG.name, "bob (cli)")
ESTATES = TypeAdapter(tuple[Estate, ...])


def stopping() -> Play:
    """Blog is told to stop, and its workers drain."""
    play = curtain_up()
    (
        play
        >> STOP
        << CloseListener(HTTP)
        << Said(NoticeKind.STOP_ASKED, "stops")
        << DrainWorker(ProcId(2), None, 30.0)
        << DrainWorker(ProcId(3), None, 30.0)
        << KillProcess(ProcId(1), "SIGTERM")
    )
    return play


def stopped() -> Play:
    play = stopping()
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    play >> exited(3) << Said(NoticeKind.WORKER_DRAINED)
    play >> exited(1) << ForgetGeneration(BLOG.name, ONE) << Said(NoticeKind.SITE_STOPPED)
    return play


def next_daemon(before: Play, after_s: float = 100.0) -> Play:
    """The daemon is killed; another one, with what was written down."""
    estates = before.fleet.take_estates()
    left = tuple(each for each in estates.values() if each is not None)
    play = Play(now=before.now + after_s)
    return play >> SitesAdopted(ESTATES.validate_json(ESTATES.dump_json(left)))


def next_program(before: Play) -> Play:
    """The daemon's program is replaced."""
    sites, last_proc, dashboard, keeper = before.fleet.bequest()
    assert before.fleet.settings is not None
    read = ESTATES.validate_json(ESTATES.dump_json(sites))
    replaced = Replaced(before.fleet.settings, last_proc, dashboard, dashboard_anew=False, keeper=keeper)
    return Play(now=before.now + 0.5) >> SitesAdopted(read, replaced)


def test_a_stop_refuses_drains_and_ends_everything_and_says_who_wanted_it() -> None:
    play = stopping()
    assert play.site().state is SiteState.STOPPING
    assert play.site().stopped_by == "anna (cli)"
    play = stopped()
    play >> 10_000.0
    play.done()
    assert play.site().state is SiteState.STOPPED
    assert play.site().stopped_by == "anna (cli)"
    assert play.site().workers == ()
    asked = next(each for each in play.all if getattr(each, "kind", None) is NoticeKind.STOP_ASKED)
    assert asked.by == "anna (cli)"  # type: ignore[union-attr]


def test_a_start_binds_and_loads_anew_and_numbers_go_on() -> None:
    play = stopped()
    play >> START << Said(NoticeKind.START_ASKED, "starts") << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartTemplate, generation=TWO)
    assert play.site().state is SiteState.STARTING
    assert play.site().stopped_by is None
    template = play.asked(StartTemplate)
    play >> started(template) >> loaded(template) << like(ForkWorker, generation=TWO)
    first = play.asked(ForkWorker)
    play >> started(first) >> ready(first) << Said(NoticeKind.WORKER_READY) << like(ForkWorker)
    second = play.asked(ForkWorker)
    play >> started(second) >> ready(second) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.SITE_SERVING)
    play.done()
    assert play.site().state is SiteState.SERVING


def test_asked_twice_is_asked_once() -> None:
    play = stopping()
    play >> SiteStopAsked(BLOG.name, "bob (cli)")
    play.done()
    assert play.site().stopped_by == "anna (cli)"
    play = stopped()
    play >> STOP >> SiteStopAsked(BLOG.name, "bob (cli)", at_once=True)
    play.done()
    serving = curtain_up()
    serving >> START
    serving.done()
    assert serving.site().state is SiteState.SERVING


def test_who_does_not_want_to_wait_kills_what_still_drains() -> None:
    play = stopping()
    play >> SiteStopAsked(BLOG.name, "bob (cli)", at_once=True) << Said(NoticeKind.STOP_ASKED, "at once")
    play << KillProcess(ProcId(2), "SIGKILL") << KillProcess(ProcId(3), "SIGKILL")
    play << KillProcess(ProcId(1), "SIGKILL")
    play.done()
    assert play.site().stopped_by == "anna (cli)"


def test_what_does_not_end_within_drain_timeout_is_killed() -> None:
    play = stopping()
    play >> 60.0 << ...
    assert KillProcess(ProcId(2), "SIGKILL") in play.all


def test_a_start_during_the_drain_lets_requests_finish_and_then_starts() -> None:
    play = stopping()
    play >> START << Said(NoticeKind.START_ASKED) << BindListener(HTTP)
    play >> ListenerBound(HTTP)
    assert play.site().state is SiteState.STOPPING
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED) >> exited(3) << Said(NoticeKind.WORKER_DRAINED)
    play >> exited(1) << like(StartTemplate, generation=TWO) << ForgetGeneration(BLOG.name, ONE)
    play.done()


def test_a_restart_of_what_is_stopped_starts_it() -> None:
    play = stopped()
    play >> RestartAsked(BLOG.name, "bob (cli)") << Said(NoticeKind.START_ASKED) << BindListener(HTTP)
    play.done()


@pytest.mark.parametrize(
    "order",
    [
        ReloadAsked(BLOG.name, "me"),
        RollbackAsked(BLOG.name, "me"),
        ScaleAsked(BLOG.name, 5, "me"),
        ScaleAsked(BLOG.name, 1, "SIGTTIN", relative=True),
        RunAsked(BLOG.name, "nightly", "schedule"),
    ],
)
def test_nothing_but_a_start_moves_a_site_that_was_stopped(order: Event) -> None:
    play = stopped()
    play >> order
    play.done()
    assert (play.site().state, play.site().workers_asked) == (SiteState.STOPPED, 0)


def test_it_stays_stopped_through_changes_and_is_started_with_the_newest() -> None:
    play = stopped()
    new = replace(BLOG, env=(("DEBUG", "1"),), listen=(OTHER,))
    play >> changed(new, reload=(BLOG.name,)) << Said(NoticeKind.SETTINGS_CHANGED)
    assert play.site().state is SiteState.STOPPED
    play >> START << Said(NoticeKind.START_ASKED) << BindListener(OTHER)
    play >> ListenerBound(OTHER) << like(StartTemplate, site=new)
    play.done()
    assert play.site().last_reload is None, "a start is no reload"


def test_a_stop_gives_up_the_reload_that_runs() -> None:
    play = curtain_up()
    play >> ReloadAsked(BLOG.name, "me") << ... >> started(4)
    play >> STOP << CloseListener(HTTP) << Said(NoticeKind.STOP_ASKED)
    play << Said(NoticeKind.RELOAD_SUPERSEDED, "the site was stopped") << ...
    report = play.site().last_reload
    assert report is not None
    assert (report.result, report.error) == (ReloadResult.ROLLED_BACK, "the site was stopped")


def test_the_others_serve_on() -> None:
    play = Play()
    play >> SettingsChanged(settings(BLOG, SHOP), "start") << ...
    play >> ListenerBound(HTTP) << ... >> ListenerBound(OTHER) << ...
    begun = [each.proc for each in play.all if isinstance(each, StartTemplate)]
    for proc in begun:
        play >> started(proc) >> loaded(proc) << ...
    for proc in [each.proc for each in play.all if isinstance(each, ForkWorker)]:
        play >> started(proc) >> ready(proc) << ...
    for proc in [each.proc for each in play.all if isinstance(each, ForkWorker)][2:]:
        play >> started(proc) >> ready(proc) << ...
    before = play.site("shop")
    assert before.state is SiteState.SERVING
    play >> STOP << ...
    assert play.site("shop") == before
    assert CloseListener(OTHER) not in play.all


def test_one_that_is_unknown_is_nobody() -> None:
    play = curtain_up()
    play >> SiteStopAsked(SiteName("none"), "me") >> SiteStartAsked(SiteName("none"), "me")
    play.done()


def test_its_programs_end_and_come_back() -> None:
    site = replace(BLOG, programs=(ProgramSettings("celery", "celery worker"),))
    play = curtain_up(site)
    program = next(each for each in play.all if isinstance(each, StartProgram)).proc
    play >> started(program) << Said(NoticeKind.PROGRAM_STARTED)
    play >> STOP << ...
    assert KillProcess(program, "SIGTERM") in play.all
    for proc in (2, 3, 1):
        play >> exited(proc) << ...
    assert play.site().state is SiteState.STOPPING
    play >> exited(program) << Said(NoticeKind.PROGRAM_STOPPED) << Said(NoticeKind.SITE_STOPPED)
    play.done()
    assert play.site().programs == ()


def test_a_killed_daemon_leaves_it_stopped_though_nothing_is_left_of_it() -> None:
    play = next_daemon(stopped())
    play << Said(NoticeKind.SITE_ADOPTED, "stays stopped, as anna (cli) has left it")
    play >> changed(BLOG, reload=(BLOG.name,))
    play >> 1000.0
    play.done()
    assert (play.site().state, play.site().stopped_by) == (SiteState.STOPPED, "anna (cli)")
    play >> START << Said(NoticeKind.START_ASKED) << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartTemplate, generation=TWO)
    play.done()


def test_a_daemon_killed_during_the_drain_leaves_the_rest_to_the_next() -> None:
    play = next_daemon(stopping(), after_s=10.0)
    play << Said(NoticeKind.SITE_ADOPTED, "stays stopped")
    play >> changed(BLOG) << KillProcess(ProcId(1), "SIGKILL")  # it had its SIGTERM
    assert play.site().state is SiteState.STOPPING
    for proc in (2, 3):
        play >> exited(proc) << Said(NoticeKind.WORKER_DRAINED)
    play >> exited(1) << ForgetGeneration(BLOG.name, ONE) << Said(NoticeKind.SITE_STOPPED)
    play.done()


def test_no_death_of_a_daemon_gives_a_worker_that_drains_more_time() -> None:
    between = next_daemon(stopping(), after_s=20.0)
    between << ... >> changed(BLOG) << ...
    play = next_daemon(between, after_s=11.0)
    play << ... >> changed(BLOG) << ...
    play >> 0.9
    play >> 0.2 << Said(NoticeKind.WORKER_KILLED) << KillProcess(ProcId(2), "SIGKILL")
    play << Said(NoticeKind.WORKER_KILLED) << KillProcess(ProcId(3), "SIGKILL")


def test_another_program_of_the_daemon_leaves_it_stopped() -> None:
    play = next_program(stopped())
    play >> changed(BLOG, reload=(BLOG.name,)) << Said(NoticeKind.SETTINGS_CHANGED)
    play >> 1000.0
    play.done()
    assert (play.site().state, play.site().stopped_by) == (SiteState.STOPPED, "anna (cli)")
    draining = next_program(stopping())
    assert draining.site().state is SiteState.STOPPING
    draining >> exited(2) << ... >> exited(3) << ... >> exited(1) << ...
    assert draining.site().state is SiteState.STOPPED


def test_the_end_of_the_daemon_ends_it_too_and_leaves_nothing() -> None:
    play = stopped()
    play >> StopAsked("me") << Said(NoticeKind.STOPPING) << Said(NoticeKind.SITE_STOPPED) << Quit()
    assert play.fleet.take_estates() == {BLOG.name: None}, "a daemon that is started anew starts it"


def test_one_that_is_removed_and_added_again_was_not_stopped() -> None:
    play = stopped()
    play >> changed(SHOP) << Said(NoticeKind.SITE_REMOVED) << ...
    assert ForgetSite(BLOG.name) in play.all
    play >> changed(SHOP, BLOG) << ...
    assert (play.site().state, play.site().stopped_by) == (SiteState.STARTING, None)


def test_the_router_turns_away_at_once_what_is_stopped_and_waits_for_what_starts() -> None:
    shared = replace(BLOG, listen=(), shared=(OTHER,))
    play = curtain_up(shared)
    play >> STOP << Said(NoticeKind.STOP_ASKED) << ...
    assert play.all[-1] == CloseRoute(BLOG.name)
    for proc in (2, 3, 1):
        play >> exited(proc) << ...
    assert play.site().state is SiteState.STOPPED
    for heir in (next_program(play), next_daemon(play)):
        if heir.fleet.settings is None:
            heir << Said(NoticeKind.SITE_ADOPTED)
            heir >> changed(shared)
        heir << CloseRoute(BLOG.name)
        heir.done()
    (
        play
        >> START
        << Said(NoticeKind.START_ASKED)
        << like(StartTemplate, generation=TWO)
        << OpenRoute(BLOG.name)
    )
    play.done()


def test_one_that_may_sleep_is_loaded_when_it_is_started() -> None:
    play = stopped()
    play >> changed(replace(BLOG, workers=WorkerCount(0, 2))) << ...
    assert play.site().state is SiteState.STOPPED
    play >> START << Said(NoticeKind.START_ASKED) << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartTemplate)
    play.done()


def test_what_the_load_asked_for_before_a_stop_is_not_held_against_what_is_started() -> None:
    play = curtain_up(replace(BLOG, workers=WorkerCount(2, 4)))
    play >> changed(replace(BLOG, workers=WorkerCount(1, 4), scaling=ScalingPolicy(down_after_s=5.0))) << ...
    quiet = LoadSampled(BLOG.name, busy_threads=0, waiting=0)
    play >> 1.0 >> quiet >> 1.0 >> quiet
    play >> STOP << ...
    for proc in (2, 3, 1):
        play >> exited(proc) << ...
    play >> 10.0 >> START << ... >> ListenerBound(HTTP) << ...
    template = play.asked(StartTemplate)
    play >> started(template) >> loaded(template) << ...
    for _ in range(2):
        proc = play.asked(ForkWorker)
        play >> started(proc) >> ready(proc) << ...
    assert play.site().workers_asked == 2
    play >> 1.0 >> quiet
    play.done()
    play >> 5.0 >> quiet << Said(NoticeKind.SCALED, "no more were needed for 5 s") << ...
    assert play.site().workers_asked == 1
