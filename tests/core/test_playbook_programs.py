"""What a site's programs do, read as plays: blog serves by template 1 and workers 2 and 3; programs come after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.playbook import (
    BLOG,
    HTTP,
    KILLED,
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
    DrainWorker,
    ForkWorker,
    KillProcess,
    NoticeKind,
    Quit,
    StartProgram,
    StartTemplate,
)
from djsup.core.events import (
    Exit,
    ListenerBound,
    ProgramSaid,
    ReloadAsked,
    RestartAsked,
    RunAsked,
    SpawnFailed,
    StopAsked,
    TemplateFailed,
)
from djsup.core.model import Generation, ProcId, ProgramReload, ProgramSettings, SiteSettings
from djsup.core.snapshot import ProgramSnapshot

CELERY = ProgramSettings("celery", "celery -A blog worker", stop_signal="QUIT", stop_timeout_s=7.0)
SESSIONS = ProgramSettings("sessions", "django-admin clearsessions", schedule="0 3 * * *")


def with_programs(*programs: ProgramSettings) -> SiteSettings:
    return replace(BLOG, programs=programs)


def on_stage(*programs: ProgramSettings) -> Play:
    """Blog serves, and its programs that are kept running do so, as processes from 4 on."""
    site = with_programs(*programs)
    play = Play()
    play >> changed(site) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> loaded(1) << ...
    play >> started(2) >> ready(2) << ...
    number = sum(each.instances for each in programs if each.schedule is None)
    procs = [each.proc for each in play.all if isinstance(each, StartProgram)]
    assert len(procs) == number
    worker = play.asked(ForkWorker)
    play >> started(worker) >> ready(worker) << ...
    for proc in procs:
        play >> started(proc)
        if not site.programs[0].notify:
            play << Said(NoticeKind.PROGRAM_STARTED, "runs")
    return play


def program(play: Play, name: str = "celery", instance: int = 0) -> ProgramSnapshot:
    return next(each for each in play.site().programs if (each.name, each.instance) == (name, instance))


def reload(play: Play) -> None:
    """A whole reload that goes well; programs are left to the play."""
    play >> ReloadAsked(BLOG.name, "me") << ...
    template = play.asked(StartTemplate)
    play >> started(template) >> loaded(template) << ...
    for _ in range(2):
        worker = play.asked(ForkWorker)
        play >> started(worker)
        play >> ready(worker)
        if play.site().generation == 1:
            drained = next(each.proc for each in play.came if isinstance(each, DrainWorker))
            play << ...
            play >> exited(drained) << ...


def test_programs_are_started_once_the_first_generation_serves_and_not_before() -> None:
    play = Play()
    site = with_programs(CELERY)
    play >> changed(site) << ...
    play >> ListenerBound(HTTP) << like(StartTemplate)
    play >> started(1)
    play >> loaded(1) << like(ForkWorker, proc=2)
    play >> started(2)
    play >> ready(2) << ...
    started_program = next(each for each in play.all if isinstance(each, StartProgram))
    assert (started_program.program, started_program.instance, started_program.generation) == (CELERY, 0, 1)
    assert play.all.index(started_program) > play.all.index(
        next(e for e in play.all if isinstance(e, ForkWorker))
    )


def test_site_that_does_not_load_runs_no_program() -> None:
    play = Play()
    play >> changed(with_programs(CELERY)) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> TemplateFailed(ProcId(1), "broken", "") << ...
    play >> exited(1, Exit(3)) << ...
    assert not [each for each in play.all if isinstance(each, StartProgram)]
    assert play.site().programs == ()


def test_program_that_dies_young_is_started_again_by_the_backoff_for_ever() -> None:
    play = on_stage(CELERY)
    waits = []
    for _ in range(14):
        proc = next(each.proc for each in reversed(play.all) if isinstance(each, StartProgram))
        if program(play).pid is None:
            play >> started(proc) << Said(NoticeKind.PROGRAM_STARTED)
        died = exited(proc, Exit(1, stderr=("no broker",)))
        play >> died << Said(NoticeKind.PROGRAM_DIED, "exited with status 1") << ...
        assert program(play).state == "backing-off"
        wait_s = program(play).next_try_s
        assert wait_s is not None
        waits.append(wait_s)
        play >> wait_s - 0.01
        play >> 0.02 << like(StartProgram, program=CELERY, instance=0)
    assert waits[:3] == sorted(waits[:3])
    assert 30.0 <= waits[-1] <= 37.5


def test_program_that_lived_long_is_started_again_at_once() -> None:
    play = on_stage(CELERY)
    play >> 11.0
    play >> exited(4, KILLED) << Said(NoticeKind.PROGRAM_DIED, "killed by SIGKILL") << like(StartProgram)
    play.done()


def test_last_words_and_reason_are_in_the_event() -> None:
    play = on_stage(CELERY)
    end = Exit(signal="SIGSEGV", core_dumped=True, stderr=("Fatal", "Segfault"))
    play >> exited(4, end) << Said(NoticeKind.PROGRAM_DIED, "Fatal\nSegfault")
    assert (
        "(pid 104) died: killed by SIGSEGV (core dumped); started again in 0."
        in play.said(NoticeKind.PROGRAM_DIED)[0]
    )


def test_program_that_cannot_be_started_backs_off() -> None:
    play = on_stage(replace(CELERY, instances=0))
    play >> changed(with_programs(CELERY)) << like(StartProgram) << ...
    proc = next(each.proc for each in reversed(play.all) if isinstance(each, StartProgram))
    (
        play
        >> SpawnFailed(proc, "no such program")
        << Said(NoticeKind.PROGRAM_DIED, "could not be started: no such")
    )
    play >> 0.3 << like(StartProgram)


def test_done_reload_stops_a_program_and_starts_it_when_it_has_gone() -> None:
    play = on_stage(CELERY)
    reload(play)
    assert KillProcess(ProcId(4), "SIGQUIT") in play.came
    assert not any(isinstance(each, StartProgram) for each in play.came), "the old one ends first"
    play << ...
    assert program(play).state == "stopping"
    play >> exited(4) << Said(NoticeKind.PROGRAM_STOPPED, "as told") << like(StartProgram, generation=2)


@pytest.mark.parametrize(("policy", "signals"), [(ProgramReload.HUP, ["SIGHUP"]), (ProgramReload.NONE, [])])
def test_done_reload_tells_a_program_or_leaves_it_alone(policy: ProgramReload, signals: list[str]) -> None:
    play = on_stage(replace(CELERY, reload=policy))
    reload(play)
    told = [each.signal for each in play.came if isinstance(each, KillProcess) and each.proc == 4]
    assert told == signals
    play << ...
    play >> 5.0 << ...
    assert program(play).pid == 104


def test_reload_that_is_rolled_back_touches_no_program_though_its_table_has_changed() -> None:
    play = on_stage(CELERY)
    other = with_programs(replace(CELERY, command="other"))
    play >> changed(other, reload=(BLOG.name,)) << ...
    template = play.asked(StartTemplate)
    play >> started(template) >> TemplateFailed(template, "broken", "") << ...
    play >> exited(template, Exit(3)) << ...
    play >> 60.0 << ...
    assert not [each for each in play.all if isinstance(each, KillProcess) and each.proc == 4]
    assert program(play).pid == 104


@pytest.mark.parametrize(
    ("field", "value", "replaced"),
    [
        ("command", "other", True),
        ("env", (("A", "b"),), True),
        ("user", "blog", True),
        ("notify", True, True),
        ("start_timeout_s", 5.0, True),
        ("watchdog_s", 5.0, True),
        ("stop_signal", "INT", False),
        ("stop_timeout_s", 1.0, False),
        ("reload", ProgramReload.HUP, False),
        ("instances", 1, False),
    ],
)
def test_changed_table_replaces_a_program_when_its_process_cannot_know(
    field: str, value: Any, replaced: bool
) -> None:
    play = on_stage(CELERY, replace(CELERY, name="beat"))
    after: dict[str, Any] = {field: value}
    changes = changed(with_programs(replace(CELERY, **after), replace(CELERY, name="beat")))
    play >> changes << ...
    told = [each.proc for each in play.all if isinstance(each, KillProcess)]
    assert told == ([ProcId(4)] if replaced else [])


def test_instances_are_added_and_taken_away() -> None:
    play = on_stage(CELERY)
    play >> changed(with_programs(replace(CELERY, instances=3))) << like(StartProgram, instance=1)
    play << like(StartProgram, instance=2) << Said(NoticeKind.SETTINGS_CHANGED)
    play >> started(5) << ...
    play >> started(6) << ...
    play >> changed(with_programs(replace(CELERY, instances=2))) << KillProcess(ProcId(6), "SIGQUIT") << ...
    play >> exited(6) << Said(NoticeKind.PROGRAM_STOPPED)
    play >> changed(with_programs()) << ...
    for proc in (4, 5):
        play >> exited(proc) << Said(NoticeKind.PROGRAM_STOPPED)
    assert play.site().programs == ()


def test_stop_tells_programs_while_workers_drain_and_kills_what_does_not_end() -> None:
    play = on_stage(CELERY)
    play >> StopAsked("me") << ...
    told = [each for each in play.all if isinstance(each, (DrainWorker, KillProcess))]
    assert KillProcess(ProcId(4), "SIGQUIT") in told
    assert sum(isinstance(each, DrainWorker) for each in told) == 2
    play >> exited(1) >> exited(2) << ...
    play >> exited(3) << ...
    play >> 6.9
    play >> 0.2 << KillProcess(ProcId(4), "SIGKILL")
    play >> exited(4, KILLED) << ... << ...
    assert isinstance(play.all[-1], Quit)


def test_restart_of_the_site_waits_for_its_programs_and_starts_them_again() -> None:
    play = on_stage(CELERY)
    play >> RestartAsked(BLOG.name, "me") << ...
    play >> exited(1) >> exited(2) << ...
    play >> exited(3) << ...
    assert not [each for each in play.all if isinstance(each, StartTemplate)][1:], "a program is left"
    play >> exited(4) << ...
    assert len([each for each in play.all if isinstance(each, StartTemplate)]) == 2


def test_program_that_says_when_it_is_ready_is_starting_until_then() -> None:
    play = on_stage(replace(CELERY, notify=True, start_timeout_s=5.0))
    assert program(play).state == "starting"
    (
        play
        >> ProgramSaid(ProcId(4), ready=True, status="cooking")
        << Said(NoticeKind.PROGRAM_STARTED, "is ready")
    )
    assert (program(play).state, program(play).status_text) == ("running", "cooking")
    play >> ProgramSaid(ProcId(4), ready=True)
    play >> 60.0
    play.done()


def test_program_that_is_not_ready_in_time_is_stopped_and_that_is_an_early_death() -> None:
    play = on_stage(replace(CELERY, notify=True, start_timeout_s=15.0))
    play >> 15.0 << KillProcess(ProcId(4), "SIGQUIT")
    play >> 7.0 << KillProcess(ProcId(4), "SIGKILL")
    (
        play
        >> exited(4, KILLED)
        << Said(NoticeKind.PROGRAM_DIED, "did not say READY=1 within start_timeout (15 s)")
    )
    assert program(play).next_try_s
    play.done()


def test_program_that_falls_silent_is_aborted_and_one_that_speaks_is_not() -> None:
    play = on_stage(replace(CELERY, watchdog_s=10.0))
    for _ in range(3):
        play >> 9.0
        play >> ProgramSaid(ProcId(4), alive=True)
    play >> 9.9
    play >> 0.2 << KillProcess(ProcId(4), "SIGABRT")
    (
        play
        >> exited(4, Exit(signal="SIGABRT"))
        << Said(NoticeKind.PROGRAM_DIED, "did not say WATCHDOG=1 for 10 s")
    )
    play << like(StartProgram)
    play.done()


def test_scheduled_command_runs_when_its_time_comes_and_is_not_started_again() -> None:
    play = on_stage(SESSIONS)
    assert program(play, "sessions").state == "waiting"
    play >> RunAsked(BLOG.name, "sessions", "schedule") << Said(NoticeKind.PROGRAM_STARTED, "run by schedule")
    play << like(StartProgram, program=SESSIONS)
    play >> started(4)
    assert program(play, "sessions").state == "running"
    play >> 3.0
    play >> exited(4, Exit(0, stderr=("cleared 7",))) << Said(NoticeKind.PROGRAM_FINISHED, "cleared 7")
    shown = program(play, "sessions")
    assert (shown.state, shown.runs, shown.last_well) == ("waiting", 1, True)
    assert shown.last_result == "exited with status 0 after 3.0 s"
    play >> 600.0
    play.done()


def test_scheduled_command_that_still_runs_is_not_run_twice_and_that_is_said() -> None:
    play = on_stage(SESSIONS)
    play >> RunAsked(BLOG.name, "sessions", "schedule") << ...
    (
        play
        >> RunAsked(BLOG.name, "sessions", "me")
        << Said(NoticeKind.PROGRAM_SKIPPED, "the run by schedule is not over")
    )
    play >> started(4) >> exited(4, Exit(2)) << Said(NoticeKind.PROGRAM_FINISHED, "exited with status 2")
    assert program(play, "sessions").last_well is False
    play.done()


def test_scheduled_command_that_takes_too_long_is_stopped_then_killed() -> None:
    play = on_stage(replace(SESSIONS, timeout_s=30.0))
    play >> RunAsked(BLOG.name, "sessions", "schedule") << ...
    play >> started(4) >> 30.0 << KillProcess(ProcId(4), "SIGTERM")
    play >> 10.0 << KillProcess(ProcId(4), "SIGKILL")
    play >> exited(4, KILLED) << Said(NoticeKind.PROGRAM_FINISHED, "took longer than timeout (30 s)")
    play.done()


def test_reload_lets_a_scheduled_command_that_runs_end() -> None:
    play = on_stage(SESSIONS)
    play >> RunAsked(BLOG.name, "sessions", "schedule") << ...
    play >> started(4)
    reload(play)
    play << ...
    assert not [each for each in play.all if isinstance(each, KillProcess) and each.proc == 4]


def test_schedule_of_a_site_that_does_not_serve_is_skipped_and_said() -> None:
    play = Play()
    play >> changed(with_programs(SESSIONS)) << ...
    play >> RunAsked(BLOG.name, "sessions", "schedule") << Said(NoticeKind.PROGRAM_SKIPPED, "does not serve")
    play.done()


def test_program_view_names_what_a_process_is() -> None:
    play = on_stage(CELERY)
    view = play.fleet.process(ProcId(4))
    assert view is not None
    assert (view.kind.value, view.site, view.pid) == ("program", "blog", 104)


def test_site_without_programs_is_as_it_was() -> None:
    assert curtain_up().site().programs == ()
    assert curtain_up().site().generation == Generation(1)
