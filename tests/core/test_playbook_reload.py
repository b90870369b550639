"""How code and settings change while a site serves."""

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
    CloseListener,
    DrainWorker,
    ForgetGeneration,
    ForgetSite,
    ForkWorker,
    KillProcess,
    NoticeKind,
    StartTemplate,
    TellLimits,
)
from djsup.core.events import (
    Exit,
    ListenerBound,
    ListenerFailed,
    ReloadAsked,
    RestartAsked,
    RollbackAsked,
    ScaleAsked,
    StopAsked,
    TemplateFailed,
    WorkerFailed,
)
from djsup.core.model import Generation, ProcId, WorkerCount
from djsup.core.snapshot import ReloadResult, SiteState

RELOAD = ReloadAsked(BLOG.name, "root (cli)")
BACK = RollbackAsked(BLOG.name, "root (cli)")
ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)


def reloading() -> Play:
    """Blog serves, and the template of generation 2 (process 4) is loading."""
    play = curtain_up()
    play >> 20.0
    (
        play
        >> RELOAD
        << Said(NoticeKind.RELOAD_STARTED, "generation 2")
        << like(StartTemplate, proc=4, generation=2)
    )
    play >> started(4)
    assert play.site().state is SiteState.RELOADING
    return play


def changing_over() -> Play:
    """Worker 5 of generation 2 serves, worker 2 of generation 1 drains."""
    play = reloading()
    play >> loaded(4) << like(ForkWorker, proc=5, template=4, generation=2)
    play >> started(5)
    play >> ready(5) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(2), TWO, 30.0)
    return play


def test_reload_starts_one_and_drains_one_until_all_have_changed() -> None:
    play = changing_over()
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED) << like(ForkWorker, proc=6, generation=2, slot=0)
    play >> started(6)
    play >> ready(6) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(3), TWO, 30.0)
    play << Said(NoticeKind.RELOAD_DONE, "generation 2 serves")
    play >> exited(3) << Said(NoticeKind.WORKER_DRAINED)
    assert (play.site().state, play.site().generation) == (SiteState.SERVING, 2)
    report = play.site().last_reload
    assert report is not None
    assert (report.result, report.generation, report.by) == (ReloadResult.DONE, 2, "root (cli)")


def test_former_template_is_kept_for_a_while_and_then_ends() -> None:
    play = changing_over()
    play >> exited(2) << ...
    play >> started(6) >> ready(6) << ...
    play >> exited(3) << ...
    play >> 59.9
    play >> 0.2 << KillProcess(ProcId(1), "SIGTERM")
    play >> exited(1) << ForgetGeneration(BLOG.name, ONE)
    play.done()


def changed_over() -> Play:
    """Generation 2 serves with workers 5 and 6; the template of generation 1 (process 1) is kept."""
    play = changing_over()
    play >> exited(2) << ...
    play >> started(6) >> ready(6) << ...
    play >> exited(3) << ...
    return play


def test_a_rollback_forks_from_the_kept_template_and_changes_over_as_a_reload_does() -> None:
    play = changed_over()
    assert (play.site().previous_generation, play.site().previous_kept_s) == (1, 60.0)
    play >> BACK << Said(NoticeKind.RELOAD_STARTED, "goes back to generation 1")
    play << like(ForkWorker, proc=7, template=1, generation=1)
    assert play.site().state is SiteState.RELOADING
    play >> started(7)
    play >> ready(7) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(6), ONE, 30.0)
    play >> exited(6) << Said(NoticeKind.WORKER_DRAINED) << like(ForkWorker, proc=8, template=1)
    play >> started(8)
    play >> ready(8) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(5), ONE, 30.0)
    play << Said(NoticeKind.RELOAD_DONE, "generation 1 serves")
    play >> exited(5) << ...
    assert (play.site().state, play.site().generation) == (SiteState.SERVING, 1)
    report = play.site().last_reload
    assert report is not None
    assert (report.result, report.generation) == (ReloadResult.DONE, 1)


def test_the_code_that_was_rolled_back_is_kept_in_turn() -> None:
    play = changed_over()
    play >> BACK << ... >> started(7) >> ready(7) << ...
    play >> exited(6) << ... >> started(8) >> ready(8) << ... >> exited(5) << ...
    assert play.site().previous_generation == 2
    play >> BACK << Said(NoticeKind.RELOAD_STARTED, "goes back to generation 2")
    play << like(ForkWorker, proc=9, template=4, generation=2)
    play.done()


def test_a_reload_after_a_rollback_has_a_number_of_its_own() -> None:
    play = changed_over()
    play >> BACK << ... >> started(7) >> ready(7) << ...
    play >> exited(6) << ... >> started(8) >> ready(8) << ... >> exited(5) << ...
    play >> RELOAD << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, generation=3)


def test_a_rollback_gives_a_running_reload_up() -> None:
    play = changed_over()
    play >> RELOAD << Said(NoticeKind.RELOAD_STARTED, "3") << like(StartTemplate, proc=7, generation=3)
    play >> started(7)
    play >> BACK << Said(NoticeKind.RELOAD_SUPERSEDED, "generation 1 was asked back")
    play << Said(NoticeKind.RELOAD_STARTED, "goes back to generation 1") << like(ForkWorker, template=1)
    play << KillProcess(ProcId(7), "SIGKILL")
    play.done()


@pytest.mark.parametrize("seconds", [0.0, 61.0])
def test_without_a_kept_template_nothing_goes_back(seconds: float) -> None:
    play = curtain_up() if seconds == 0.0 else changed_over()
    play >> seconds << ...
    if seconds:
        play >> exited(1) << ...
    assert (play.site().previous_generation, play.site().previous_kept_s) == (0, None)
    play >> BACK << Said(NoticeKind.ROLLBACK_REFUSED, "no former generation is kept")
    play.done()
    assert play.site().state is SiteState.SERVING


def test_a_rollback_whose_worker_fails_leaves_the_new_code_serving() -> None:
    play = changed_over()
    play >> BACK << ... >> started(7)
    (
        play
        >> exited(7, KILLED)
        << Said(NoticeKind.WORKER_FAILED)
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "generation 2 serves on")
    )
    play.done()
    assert (play.site().state, play.site().generation) == (SiteState.SERVING, 2)


def test_long_request_in_a_draining_worker_does_not_hold_up_the_others() -> None:
    play = changing_over()
    play >> 0.9
    play >> 0.2 << like(ForkWorker, proc=6, generation=2)
    play.done()


def test_broken_deploy_leaves_old_generation_serving() -> None:
    play = reloading()
    (
        play
        >> TemplateFailed(ProcId(4), "No module named 'blog'", "Traceback (most recent call last)")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "generation 1 serves on: No module named 'blog'")
    )
    play >> exited(4, Exit(3)) << ForgetGeneration(BLOG.name, TWO)
    play >> 300.0
    play.done()
    assert (play.site().state, play.site().generation, play.site().error) == (SiteState.SERVING, 1, None)
    report = play.site().last_reload
    assert report is not None
    assert (report.result, report.error) == (ReloadResult.ROLLED_BACK, "No module named 'blog'")
    assert report.details == "Traceback (most recent call last)"


def test_deploy_that_hangs_at_import_is_killed_and_rolled_back() -> None:
    play = reloading()
    play >> 59.9
    (
        play
        >> 0.2
        << KillProcess(ProcId(4), "SIGKILL")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "within boot_timeout (60 s)")
    )
    play >> exited(4, KILLED) << ForgetGeneration(BLOG.name, TWO)
    play.done()


def test_failed_template_that_does_not_exit_is_killed() -> None:
    play = reloading()
    play >> TemplateFailed(ProcId(4), "broken", "") << ...
    play >> 5.1 << KillProcess(ProcId(4), "SIGKILL")
    play.done()


def test_deploy_whose_health_path_fails_is_rolled_back() -> None:
    play = reloading()
    play >> loaded(4) << ...
    play >> started(5)
    (
        play
        >> WorkerFailed(ProcId(5), "/healthz answered 500", "body")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "/healthz answered 500")
    )
    play << KillProcess(ProcId(4), "SIGTERM")
    play >> exited(4) >> exited(5, Exit(4)) << ...
    assert play.site().state is SiteState.SERVING
    assert {each.generation for each in play.site().workers} == {1}


def test_new_worker_that_does_not_get_ready_is_killed_and_rolled_back() -> None:
    play = reloading()
    play >> loaded(4) << ...
    play >> started(5)
    (
        play
        >> 60.0
        << KillProcess(ProcId(5), "SIGKILL")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "boot_timeout (60 s)")
    )
    play << KillProcess(ProcId(4), "SIGTERM")
    (
        play
        >> exited(4)
        >> exited(5, KILLED)
        << Said(NoticeKind.WORKER_FAILED)
        << ForgetGeneration(BLOG.name, TWO)
    )
    play.done()


def test_new_worker_that_dies_in_the_change_over_changes_everything_back() -> None:
    play = changing_over()
    play >> exited(2) << ...
    play >> started(6)
    play >> exited(6, Exit(signal="SIGSEGV")) << Said(NoticeKind.WORKER_FAILED, "SIGSEGV")
    play << Said(NoticeKind.RELOAD_ROLLED_BACK, "a new worker failed: killed by SIGSEGV")
    play << like(ForkWorker, proc=7, template=1, generation=1) << KillProcess(ProcId(4), "SIGTERM")
    play >> started(7)
    play >> ready(7) << Said(NoticeKind.WORKER_READY) << DrainWorker(ProcId(5), ONE, 30.0)
    play >> exited(5) << ... >> exited(4) << ForgetGeneration(BLOG.name, TWO)
    assert (play.site().state, play.site().generation) == (SiteState.SERVING, 1)


def test_newer_reload_takes_the_place_of_one_that_runs() -> None:
    play = reloading()
    (
        play
        >> RELOAD
        << Said(NoticeKind.RELOAD_SUPERSEDED, "generation 2")
        << Said(NoticeKind.RELOAD_STARTED, "generation 3")
    )
    play << like(StartTemplate, proc=5, generation=3) << KillProcess(ProcId(4), "SIGKILL")
    play >> exited(4, KILLED) << ForgetGeneration(BLOG.name, TWO)
    play.done()


def test_stop_in_the_middle_of_a_reload_is_one_more_event() -> None:
    play = changing_over()
    play >> StopAsked("root (SIGTERM)") << Said(NoticeKind.STOPPING) << CloseListener(HTTP)
    play << Said(NoticeKind.RELOAD_SUPERSEDED, "djsup stops")
    play << DrainWorker(ProcId(3), None, 30.0) << DrainWorker(ProcId(5), None, 30.0)
    play << KillProcess(ProcId(1), "SIGTERM") << KillProcess(ProcId(4), "SIGTERM")
    play.done()
    assert play.site().state is SiteState.STOPPING


def test_template_killed_under_load_is_followed_by_a_reload_while_workers_serve_on() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(1, KILLED) << Said(NoticeKind.TEMPLATE_DIED, "killed by SIGKILL")
    play << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, proc=4, generation=2)
    (
        play
        >> started(4)
        >> TemplateFailed(ProcId(4), "broken", "")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "generation 1 serves on: broken; next try")
    )
    play >> exited(4, Exit(3)) << ...
    assert play.site().state is SiteState.SERVING
    assert "its template is lost" in play.site().notes[0]
    play >> 0.3 << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, proc=5, generation=3)
    play.done()


def test_worker_that_dies_while_its_template_is_lost_waits_for_the_new_generation() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(1, KILLED) << ...
    play >> exited(2, KILLED) << Said(NoticeKind.WORKER_DIED)
    play.done()
    assert len(play.site().workers) == 1


def test_template_that_dies_soon_after_every_load_does_not_make_a_hot_loop() -> None:
    play = curtain_up()
    play >> exited(1, KILLED) << Said(NoticeKind.TEMPLATE_DIED)
    play >> 0.19
    play >> 0.1 << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate)
    play.done()


def test_limits_alone_are_told_and_need_no_generation() -> None:
    play = curtain_up()
    limits = replace(BLOG.limits, keepalive_s=3.0)
    (
        play
        >> changed(replace(BLOG, limits=limits))
        << TellLimits(ProcId(2), limits)
        << TellLimits(ProcId(3), limits)
        << ...
    )
    assert play.said(NoticeKind.RELOAD_STARTED) == []


def test_worker_forked_after_a_change_of_limits_is_told_them_when_it_is_ready() -> None:
    play = curtain_up()
    limits = replace(BLOG.limits, keepalive_s=3.0)
    play >> changed(replace(BLOG, limits=limits)) << ...
    play >> ScaleAsked(BLOG.name, 3, "me") << Said(NoticeKind.SCALED) << like(ForkWorker, proc=4)
    play >> started(4) >> ready(4) << Said(NoticeKind.WORKER_READY) << TellLimits(ProcId(4), limits)
    play.done()


def test_changed_environment_is_a_reload() -> None:
    play = curtain_up()
    (
        play
        >> changed(replace(BLOG, env=(("DEBUG", "0"),)))
        << Said(NoticeKind.RELOAD_STARTED)
        << like(StartTemplate)
        << ...
    )


def test_unchanged_configuration_changes_nothing() -> None:
    play = curtain_up()
    play >> changed(BLOG) << Said(NoticeKind.SETTINGS_CHANGED)
    play.done()


def test_hup_reloads_the_sites_that_it_names() -> None:
    play = curtain_up()
    (
        play
        >> changed(BLOG, reload=(BLOG.name,))
        << Said(NoticeKind.RELOAD_STARTED)
        << like(StartTemplate)
        << ...
    )


def test_changed_address_is_bound_first_and_the_old_one_closed_after_the_change_over() -> None:
    play = curtain_up()
    play >> changed(replace(BLOG, listen=(OTHER,))) << Said(NoticeKind.RELOAD_STARTED)
    play << Said(NoticeKind.SETTINGS_CHANGED) << BindListener(OTHER)
    play >> ListenerBound(OTHER) << like(StartTemplate, proc=4, generation=2)
    play >> started(4) >> loaded(4) << ... >> started(5) >> ready(5) << ...
    play >> exited(2) << ... >> started(6)
    (
        play
        >> ready(6)
        << Said(NoticeKind.WORKER_READY)
        << like(DrainWorker, proc=3)
        << Said(NoticeKind.RELOAD_DONE)
    )
    play << KillProcess(ProcId(1), "SIGTERM") << CloseListener(HTTP)  # the old template holds the old socket
    play.done()


def test_changed_address_that_is_taken_rolls_back_and_the_old_one_stays() -> None:
    play = curtain_up()
    play >> changed(replace(BLOG, listen=(OTHER,))) << ...
    (
        play
        >> ListenerFailed(OTHER, "address already in use")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "cannot listen on 127.0.0.1:8001: address already in use")
    )
    play >> 300.0
    play.done()
    assert play.site().state is SiteState.SERVING


def test_address_moves_from_one_site_to_another_without_being_closed() -> None:
    play = curtain_up()
    heir = replace(SHOP, listen=(HTTP,))
    play >> changed(heir) << Said(NoticeKind.SITE_REMOVED) << ...
    assert BindListener(HTTP) in play.all[-8:]
    play >> ListenerBound(HTTP) << like(StartTemplate, site=heir)
    play.done()


def test_added_site_starts() -> None:
    play = curtain_up()
    play >> changed(BLOG, SHOP) << Said(NoticeKind.SITE_ADDED, "shop") << ...
    play >> ListenerBound(OTHER) << like(StartTemplate, site=SHOP)
    play.done()


def test_removed_site_refuses_connections_first_then_drains_and_is_forgotten() -> None:
    play = curtain_up()
    play >> changed() << Said(NoticeKind.SITE_REMOVED) << CloseListener(HTTP)
    (
        play
        << DrainWorker(ProcId(2), None, 30.0)
        << DrainWorker(ProcId(3), None, 30.0)
        << KillProcess(ProcId(1), "SIGTERM")
    )
    play << Said(NoticeKind.SETTINGS_CHANGED)
    play >> exited(1) >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    play >> exited(3) << Said(NoticeKind.WORKER_DRAINED) << ForgetGeneration(BLOG.name, ONE)
    play << Said(NoticeKind.SITE_STOPPED) << ForgetSite(BLOG.name)
    play.done()
    assert play.fleet.snapshot(play.now) == ()


def test_site_that_comes_back_while_it_drains_starts_at_once() -> None:
    play = curtain_up()
    play >> changed() << ...
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << like(StartTemplate, generation=2)
    play.done()


def test_restart_ends_everything_keeps_the_listeners_and_begins_anew() -> None:
    play = curtain_up()
    play >> RestartAsked(BLOG.name, "me") << Said(NoticeKind.RESTART_ASKED)
    (
        play
        << DrainWorker(ProcId(2), None, 30.0)
        << DrainWorker(ProcId(3), None, 30.0)
        << KillProcess(ProcId(1), "SIGTERM")
    )
    assert play.site().state is SiteState.STOPPING
    play >> exited(2) << ... >> exited(3) << ...
    play >> exited(1) << like(StartTemplate, generation=2) << ForgetGeneration(BLOG.name, ONE)
    play.done()


@pytest.mark.parametrize(
    "order", [RELOAD, RestartAsked(BLOG.name, "me"), ScaleAsked(BLOG.name, 5, "me"), changed(SHOP)]
)
def test_nothing_is_begun_after_a_stop(order: ReloadAsked) -> None:
    play = curtain_up()
    play >> StopAsked("me") << ...
    play >> order << ...
    assert not any(isinstance(each, (StartTemplate, ForkWorker, BindListener)) for each in play.all[-3:])


def test_configuration_change_ends_a_scale_by_hand() -> None:
    play = curtain_up()
    (
        play
        >> ScaleAsked(BLOG.name, 1, "me")
        << Said(NoticeKind.SCALED, "1 worker")
        << DrainWorker(ProcId(3), ONE, 30.0)
    )
    play >> exited(3) << ...
    assert play.site().workers_asked == 1
    play >> changed(replace(BLOG, workers=WorkerCount(3, 3))) << ...
    assert play.site().workers_asked == 3
