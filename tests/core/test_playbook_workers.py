"""How workers end, and what follows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

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
    ready,
    settings,
    started,
)
from djsup.core.actions import (
    BindListener,
    CloseListener,
    DrainWorker,
    DumpStacks,
    ForgetGeneration,
    ForkWorker,
    KillProcess,
    NoticeKind,
    Quit,
    StartDashboard,
)
from djsup.core.events import (
    Exit,
    ListenerBound,
    ListenerFailed,
    MemorySampled,
    RequestOverdue,
    ScaleAsked,
    SettingsChanged,
    StopAsked,
    WorkerFailed,
)
from djsup.core.model import (
    SLOTS,
    Address,
    AddressKind,
    DashboardSettings,
    Generation,
    Limits,
    ProcId,
    SiteSettings,
)
from djsup.core.program import State as ProgramState
from djsup.core.scaling import SLOTS_RESERVE, WORKERS_MAX
from djsup.core.snapshot import SiteState, WorkerState

ONE = Generation(1)


def limited(**limits: float) -> SiteSettings:
    return replace(BLOG, limits=replace(Limits(), **limits))  # type: ignore[arg-type]


def test_worker_that_lived_long_is_replaced_at_once() -> None:
    play = curtain_up()
    play >> 10.0
    (
        play
        >> exited(2, KILLED)
        << Said(NoticeKind.WORKER_DIED, "killed by SIGKILL")
        << like(ForkWorker, proc=4, slot=0)
    )
    play.done()


def test_worker_that_died_young_is_replaced_after_the_backoff() -> None:
    play = curtain_up()
    play >> 9.9
    play >> exited(2, KILLED) << Said(NoticeKind.WORKER_DIED)
    assert play.site().next_try_s is not None
    play >> 0.19
    play >> 0.07 << like(ForkWorker, proc=4)
    play.done()


def test_early_deaths_in_a_row_wait_longer_and_longer_and_a_stable_life_ends_the_row() -> None:
    play = curtain_up()
    proc = ProcId(3)
    waits = []
    for count in range(12):
        play >> exited(proc, Exit(1)) << ...
        wait_s = play.site().next_try_s
        assert wait_s is not None
        waits.append(wait_s)
        assert play.site().failures_in_row == count + 1
        play >> wait_s << like(ForkWorker)
        proc = play.asked(ForkWorker)
        play >> started(proc) >> ready(proc) << ...
    assert all(later > earlier for earlier, later in pairwise(waits[:8]))
    assert all(30.0 <= each <= 37.5 for each in waits[9:])
    play >> 10.0
    play >> exited(proc, KILLED) << Said(NoticeKind.WORKER_DIED) << like(ForkWorker)
    play.done()


def test_row_of_early_deaths_is_not_ended_by_a_worker_that_came_before_it() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, KILLED) << ...
    play >> started(4) >> exited(4, Exit(1)) << Said(NoticeKind.WORKER_FAILED)
    play >> exited(3, KILLED) << Said(NoticeKind.WORKER_DIED)
    play >> 0.19
    play >> 0.1 << like(ForkWorker, proc=5)
    play.done()


def test_site_whose_workers_all_die_young_is_backing_off_and_says_why() -> None:
    play = curtain_up()
    play >> exited(2, Exit(1, stderr=("boom",))) << Said(NoticeKind.WORKER_DIED, "boom")
    play >> exited(3, Exit(1)) << ...
    assert play.site().state is SiteState.BACKING_OFF
    assert play.site().error == "a worker died: exited with status 1"


def test_worker_that_says_it_failed_and_exits_is_one_death() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, KILLED) << ...
    play >> started(4)
    play >> WorkerFailed(ProcId(4), "/healthz answered 503", "") << ...
    play >> exited(4, Exit(4)) << Said(NoticeKind.WORKER_FAILED, "/healthz answered 503")
    wait_s = play.site().next_try_s
    assert wait_s is not None
    assert wait_s <= 0.25


def test_reason_of_a_death_is_said_in_words() -> None:
    for how, words in [
        (Exit(status=1), "exited with status 1"),
        (Exit(signal="SIGSEGV", core_dumped=True), "killed by SIGSEGV (core dumped)"),
        (Exit(signal="SIGKILL", out_of_memory=True), "killed by SIGKILL (out of memory)"),
        (Exit(signal="SIGKILL"), "killed by SIGKILL (not by djsup"),
        (Exit(), "its exit status is not known"),
    ]:
        play = curtain_up()
        play >> exited(2, how) << Said(NoticeKind.WORKER_DIED, words)


def test_worker_that_boots_too_long_is_killed_and_counts_as_an_early_death() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, KILLED) << ...
    play >> started(4)
    play >> 60.0 << KillProcess(ProcId(4), "SIGKILL")
    (
        play
        >> exited(4, KILLED)
        << Said(NoticeKind.WORKER_FAILED, "did not get ready within boot_timeout (60 s)")
    )
    play.done()  # and nothing is started before the backoff allows it


def test_worker_that_failed_is_counted_before_its_process_has_gone() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, KILLED) << ...
    play >> started(4)
    play >> WorkerFailed(ProcId(4), "/healthz answered 503", "")
    play >> 0.19
    play >> 0.1 << like(ForkWorker, proc=5)
    play >> exited(4, Exit(4)) << Said(NoticeKind.WORKER_FAILED)
    play.done()


def test_template_that_does_not_fork_is_killed_with_the_worker_it_owes() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, KILLED) << ...
    play >> 60.0 << KillProcess(ProcId(4), "SIGKILL") << KillProcess(ProcId(1), "SIGKILL")
    (
        play
        >> exited(1, KILLED)
        << Said(NoticeKind.TEMPLATE_DIED, "did not fork")
        << Said(NoticeKind.RELOAD_STARTED)
        << ...
    )


def test_worker_that_does_not_drain_in_time_is_killed() -> None:
    play = curtain_up()
    play >> ScaleAsked(BLOG.name, 1, "me") << ...
    play >> 31.9
    play >> 0.2 << Said(NoticeKind.WORKER_KILLED) << KillProcess(ProcId(3), "SIGKILL")
    play >> exited(3, KILLED) << Said(NoticeKind.WORKER_DRAINED)
    play.done()


def test_overdue_request_is_said_with_stacks_and_its_worker_replaced_first() -> None:
    play = curtain_up()
    play >> 20.0
    play >> RequestOverdue(ProcId(2), "POST", "/report", 30.2)
    dump = play.came[0]
    assert isinstance(dump, DumpStacks), "the notice waits for the stacks"
    assert "POST /report for 30.2 s" in dump.notice.text
    play << DumpStacks(ProcId(2), dump.notice) << like(ForkWorker, proc=4)
    play >> RequestOverdue(ProcId(2), "GET", "/", 30.1) << Said(NoticeKind.REQUEST_OVERDUE, "GET /")
    assert play.site().workers[0].state is WorkerState.OVERDUE
    play >> started(4) >> ready(4) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(2), ONE, 30.0)
    assert play.site().workers[0].state is WorkerState.OVERDUE
    play >> 32.0 << Said(NoticeKind.WORKER_KILLED) << KillProcess(ProcId(2), "SIGKILL")
    play >> exited(2, KILLED) << ...
    assert play.site().state is SiteState.SERVING


def test_stuck_worker_without_replacement_is_killed_all_the_same() -> None:
    play = curtain_up()
    play >> RequestOverdue(ProcId(2), "GET", "/", 30.0) << ...
    play >> started(4)
    play >> 32.0 << Said(NoticeKind.WORKER_KILLED) << KillProcess(ProcId(2), "SIGKILL")
    play.done()


def test_workers_above_their_limit_are_replaced_one_at_a_time_and_the_new_one_comes_first() -> None:
    play = curtain_up(limited(max_memory_bytes=1000))
    play >> 20.0
    play >> MemorySampled(ProcId(2), 2000, 10) << like(ForkWorker, proc=4)
    play >> MemorySampled(ProcId(3), 2000, 10)
    (
        play
        >> started(4)
        >> ready(4)
        << Said(NoticeKind.WORKER_READY)
        << Said(NoticeKind.WORKER_RECYCLED, "2000 bytes")
    )
    play << DrainWorker(ProcId(2), ONE, 30.0)
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED) << like(ForkWorker, proc=5)
    play >> started(5) >> ready(5) << ...
    play >> exited(3) << ...
    play.done()


def test_workers_reach_max_requests_at_different_times() -> None:
    play = curtain_up(limited(max_requests=1000))
    first, second = (
        next(
            requests
            for requests in range(1000, 1102)
            if _recycles(limited(max_requests=1000), proc, requests)
        )
        for proc in (2, 3)
    )
    assert 1000 <= first <= 1100
    assert 1000 <= second <= 1100
    assert first != second
    play >> MemorySampled(ProcId(2), 0, 999)
    play.done()


def _recycles(site: SiteSettings, proc: int, requests: int) -> bool:
    play = curtain_up(site)
    play >> MemorySampled(ProcId(proc), 0, requests)
    return bool(play.came)


def test_worker_that_has_lived_for_max_lifetime_is_replaced() -> None:
    play = curtain_up(limited(max_lifetime_s=600.0))
    play >> 599.0
    play >> 61.1 << like(ForkWorker, proc=4)
    play.done()


def test_scale_up_forks_and_scale_down_drains_the_highest_slots() -> None:
    play = curtain_up()
    play >> ScaleAsked(BLOG.name, 2, "me", relative=True) << Said(NoticeKind.SCALED, "4 workers")
    play << like(ForkWorker, proc=4, slot=2) << like(ForkWorker, proc=5, slot=3)
    play >> started(4) >> ready(4) << ... >> started(5) >> ready(5) << ...
    play >> ScaleAsked(BLOG.name, 1, "me") << Said(NoticeKind.SCALED, "1 worker")
    (
        play
        << DrainWorker(ProcId(5), ONE, 30.0)
        << DrainWorker(ProcId(4), ONE, 30.0)
        << DrainWorker(ProcId(3), ONE, 30.0)
    )
    play.done()


def test_scale_down_kills_those_that_still_boot_first() -> None:
    play = curtain_up()
    play >> ScaleAsked(BLOG.name, 3, "me") << ...
    play >> ScaleAsked(BLOG.name, 2, "me") << Said(NoticeKind.SCALED) << KillProcess(ProcId(4), "SIGKILL")
    play.done()


def test_scale_is_clamped_to_what_the_scoreboard_can_hold() -> None:
    play = curtain_up()
    play >> ScaleAsked(BLOG.name, 10_000, "me") << ...
    assert play.site().workers_asked == WORKERS_MAX == SLOTS - SLOTS_RESERVE
    play >> ScaleAsked(BLOG.name, -10_000, "me", relative=True) << ...
    assert play.site().workers_asked == 1


def test_stop_drains_everything_and_quits_when_nothing_is_left() -> None:
    play = curtain_up()
    play >> StopAsked("root (SIGTERM)") << Said(NoticeKind.STOPPING) << CloseListener(HTTP)
    (
        play
        << DrainWorker(ProcId(2), None, 30.0)
        << DrainWorker(ProcId(3), None, 30.0)
        << KillProcess(ProcId(1), "SIGTERM")
    )
    play >> exited(1) >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    (
        play
        >> exited(3)
        << Said(NoticeKind.WORKER_DRAINED)
        << like(ForgetGeneration)
        << Said(NoticeKind.SITE_STOPPED)
        << Quit()
    )
    play.done()
    assert play.fleet.done


def test_second_stop_kills_at_once() -> None:
    play = curtain_up()
    play >> StopAsked("me") << ...
    play >> StopAsked("me") << KillProcess(ProcId(2), "SIGKILL") << KillProcess(ProcId(3), "SIGKILL")
    play << KillProcess(ProcId(1), "SIGKILL")
    play.done()


def test_stop_at_once_does_not_wait_for_requests() -> None:
    play = curtain_up()
    play >> StopAsked("root (SIGINT)", at_once=True) << Said(NoticeKind.STOPPING) << CloseListener(HTTP)
    (
        play
        << KillProcess(ProcId(2), "SIGKILL")
        << KillProcess(ProcId(3), "SIGKILL")
        << KillProcess(ProcId(1), "SIGKILL")
    )
    play.done()


def test_stop_of_an_empty_fleet_quits_at_once() -> None:
    play = Play()
    play >> changed() >> StopAsked("me") << Said(NoticeKind.STOPPING) << Quit()
    play.done()


DASHBOARD = DashboardSettings(Address(AddressKind.TCP, "127.0.0.1", 9000), "/etc/djsup/token")


def with_dashboard() -> Play:
    play = Play()
    (
        play
        >> SettingsChanged(replace(settings(), dashboard=DASHBOARD), "start")
        << BindListener(DASHBOARD.listen)
    )
    play >> ListenerBound(DASHBOARD.listen) << StartDashboard(ProcId(1))
    play >> started(1) << Said(NoticeKind.DASHBOARD_STARTED)
    return play


def test_dashboard_is_bound_started_and_started_again_by_the_backoff() -> None:
    play = with_dashboard()
    assert play.fleet.dashboard.state is ProgramState.RUNNING
    play >> exited(1, KILLED) << Said(NoticeKind.DASHBOARD_DIED, "killed by SIGKILL")
    play >> 0.19
    play >> 0.1 << StartDashboard(ProcId(2))
    play.done()


def test_dashboard_whose_address_is_taken_is_tried_again() -> None:
    play = Play()
    play >> SettingsChanged(replace(settings(), dashboard=DASHBOARD), "start") << ...
    (
        play
        >> ListenerFailed(DASHBOARD.listen, "address already in use")
        << Said(NoticeKind.LISTENER_FAILED, "dashboard")
    )
    assert play.fleet.dashboard.error is not None
    play >> 0.3 << BindListener(DASHBOARD.listen)
    play.done()


def test_dashboard_that_is_switched_off_ends() -> None:
    play = with_dashboard()
    play >> SettingsChanged(settings(), "me") << Said(NoticeKind.SETTINGS_CHANGED) << ...
    play >> exited(1)
    play >> 60.0
    play.done()
    assert play.fleet.dashboard.state is ProgramState.DOWN


def test_dashboard_with_other_settings_is_restarted() -> None:
    play = with_dashboard()
    other = replace(DASHBOARD, token_file="/other")
    play >> SettingsChanged(replace(settings(), dashboard=other), "me") << Said(NoticeKind.SETTINGS_CHANGED)
    play << KillProcess(ProcId(1), "SIGTERM")
    play >> exited(1) << StartDashboard(ProcId(2))
    play.done()


def test_dashboard_that_ignores_sigterm_is_killed() -> None:
    play = with_dashboard()
    play >> StopAsked("me") << ...
    play >> 5.1 << KillProcess(ProcId(1), "SIGKILL")
    play >> exited(1, KILLED) << Quit()
    play.done()


def test_process_view_names_what_a_process_is() -> None:
    play = curtain_up()
    view = play.fleet.process(ProcId(2))
    assert view is not None
    assert (view.site, view.generation, view.slot, view.kind.value, view.pid) == ("blog", 1, 0, "worker", 102)
    assert play.fleet.process(ProcId(99)) is None
