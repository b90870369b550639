"""How a site starts, and how it does not."""

from __future__ import annotations

from dataclasses import replace

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
    started,
)
from djsup.core.actions import BindListener, BootWorker, ForkWorker, KillProcess, NoticeKind, StartTemplate
from djsup.core.events import (
    Exit,
    ListenerBound,
    ListenerFailed,
    ReloadAsked,
    SpawnFailed,
    TemplateFailed,
    WorkerFailed,
)
from djsup.core.model import Generation, Preload, ProcId, SiteName, Slot
from djsup.core.snapshot import SiteState


def test_site_binds_then_loads_then_proves_one_worker_then_starts_the_others() -> None:
    play = Play()
    play >> changed(BLOG) << BindListener(HTTP)
    assert play.site().state is SiteState.STARTING
    play >> ListenerBound(HTTP) << StartTemplate(ProcId(1), Generation(1), BLOG)
    play >> started(1)
    play >> loaded(1) << ForkWorker(ProcId(2), ProcId(1), BLOG.name, Generation(1), Slot(0))
    play >> started(2)
    play >> ready(2) << Said(NoticeKind.WORKER_READY) << like(ForkWorker, proc=3, slot=1)
    assert play.site().state is SiteState.STARTING
    play >> started(3)
    play >> ready(3) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.SITE_SERVING, "with 2 workers")
    play.done()
    assert (play.site().state, play.site().generation, play.site().django) == (SiteState.SERVING, 1, "5.2")


def test_every_listener_of_every_site_is_bound_before_anything_is_spawned() -> None:
    play = Play()
    play >> changed(BLOG, SHOP) << BindListener(HTTP) << BindListener(OTHER)
    play >> ListenerBound(OTHER) << like(StartTemplate, site=SHOP)
    play >> ListenerBound(HTTP) << like(StartTemplate, site=BLOG)
    play.done()


def test_taken_address_fails_one_site_and_the_others_start() -> None:
    play = Play()
    play >> changed(BLOG, SHOP) << ...
    (
        play
        >> ListenerFailed(HTTP, "address already in use")
        << Said(NoticeKind.LISTENER_FAILED, "127.0.0.1:8000")
    )
    play >> ListenerBound(OTHER) << like(StartTemplate, site=SHOP)
    assert play.site().state is SiteState.FAILED
    assert play.site().error == "cannot listen on 127.0.0.1:8000: address already in use"
    play >> 0.3 << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartTemplate, site=BLOG, generation=1)
    play.done()


def test_taken_address_is_tried_again_at_once_on_reload() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerFailed(HTTP, "address already in use") << ...
    play >> ReloadAsked(BLOG.name, "me") << Said(NoticeKind.RELOAD_STARTED) << BindListener(HTTP)
    play.done()


def test_failed_first_load_is_repeated_for_ever_by_the_backoff() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << ...
    waits = []
    for attempt in range(1, 15):
        proc = play.asked(StartTemplate)
        play >> started(proc)
        (
            play
            >> TemplateFailed(proc, "No module named 'blog'", "Traceback")
            << Said(NoticeKind.LOAD_FAILED, "Traceback")
        )
        play >> exited(proc, Exit(3)) << ...
        assert play.site().state is SiteState.FAILED
        assert play.site().error == "No module named 'blog'"
        wait_s = play.site().next_try_s
        assert wait_s is not None
        waits.append(wait_s)
        play >> wait_s << like(StartTemplate, generation=attempt + 1)
    assert waits[:3] == sorted(waits[:3])
    assert waits[0] >= 0.2
    assert 30.0 <= waits[-1] <= 37.5


def test_failed_first_load_is_repeated_at_once_on_reload_and_reported() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> TemplateFailed(ProcId(1), "broken", "") << ...
    play >> exited(1, Exit(3)) << ...
    (
        play
        >> ReloadAsked(BLOG.name, "me")
        << Said(NoticeKind.RELOAD_STARTED)
        << like(StartTemplate, proc=2, generation=2)
    )
    assert play.site().state is SiteState.STARTING
    (
        play
        >> started(2)
        >> TemplateFailed(ProcId(2), "still broken", "")
        << Said(NoticeKind.RELOAD_ROLLED_BACK, "nothing serves: still broken; next try")
    )
    play.done()
    assert play.site().state is SiteState.FAILED


def test_unhealthy_first_worker_fails_the_load_and_its_template_ends() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> loaded(1) << ...
    play >> started(2)
    (
        play
        >> WorkerFailed(ProcId(2), "/healthz answered 500", "")
        << Said(NoticeKind.LOAD_FAILED, "/healthz answered 500")
    )
    play << KillProcess(ProcId(1), "SIGTERM")
    play >> exited(2, Exit(4)) << Said(NoticeKind.WORKER_FAILED) >> exited(1) << ...
    assert play.site().state is SiteState.FAILED


def test_site_without_preload_boots_each_worker_by_itself() -> None:
    site = replace(BLOG, preload=Preload.NEVER)
    play = Play()
    play >> changed(site) << ...
    play >> ListenerBound(HTTP) << BootWorker(ProcId(1), Generation(1), Slot(0), site)
    play >> started(1) >> loaded(1)  # it loads the application by itself, and says so
    play >> ready(1) << Said(NoticeKind.WORKER_READY) << like(BootWorker, proc=2, slot=1)
    play.done()


def test_unsafe_template_is_ended_and_the_site_runs_without_one() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1)
    (
        play
        >> loaded(1, "2 threads run")
        << Said(NoticeKind.NO_TEMPLATE, "2 threads run")
        << like(BootWorker, proc=2)
    )
    play << KillProcess(ProcId(1), "SIGTERM")
    play >> exited(1) >> started(2)
    play >> ready(2) << Said(NoticeKind.WORKER_READY) << like(BootWorker, proc=3)
    assert "2 threads run" in play.site().notes[0]
    play.done()


def test_unsafe_template_is_forked_where_preload_says_always() -> None:
    play = Play()
    play >> changed(replace(BLOG, preload=Preload.ALWAYS)) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> loaded(1, "2 threads run") << like(ForkWorker, proc=2)
    play.done()


def test_fork_that_fails_counts_as_an_early_death() -> None:
    play = Play()
    play >> changed(BLOG) << ...
    play >> ListenerBound(HTTP) << ...
    play >> started(1) >> loaded(1) << ...
    play >> started(2) >> ready(2) << ...
    play >> SpawnFailed(ProcId(3), "EAGAIN") << Said(NoticeKind.WORKER_FAILED, "could not be started: EAGAIN")
    assert play.site().state is SiteState.DEGRADED
    play >> 0.19
    play >> 0.1 << like(ForkWorker, proc=4)
    play.done()


def test_process_that_says_what_it_cannot_have_to_say_is_killed() -> None:
    play = curtain_up()
    play >> ready(2) << KillProcess(ProcId(2), "SIGKILL") << ...
    (
        play
        >> exited(2, Exit(signal="SIGKILL"))
        << Said(NoticeKind.WORKER_DIED, "what it cannot have to say")
        << ...
    )


def test_late_words_of_a_process_that_is_gone_are_ignored() -> None:
    play = curtain_up()
    play >> 20.0
    play >> exited(2, Exit(signal="SIGKILL")) << ...
    play >> ready(2)
    play.done()


def test_two_sites_do_not_share_an_address_and_the_second_is_told_who_has_it() -> None:
    play = Play()
    rival = replace(SHOP, listen=(HTTP,))
    play >> changed(BLOG, rival) << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartTemplate, site=BLOG)
    play >> started(1) >> loaded(1) << ...
    play >> started(2) >> ready(2) << ...
    play >> started(3) >> ready(3) << ...
    play >> 60.0 << Said(NoticeKind.LISTENER_FAILED, 'belongs to site "blog"') << ...
    assert play.site("shop").state is SiteState.FAILED
    assert play.site(SiteName("blog")).state is SiteState.SERVING
