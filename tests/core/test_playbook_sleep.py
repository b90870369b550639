"""How a site falls asleep, sleeps, and wakes."""

from __future__ import annotations

from dataclasses import replace

from core.playbook import (
    BLOG,
    ENDED,
    HTTP,
    KILLED,
    OTHER,
    Play,
    Said,
    changed,
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
    ForkWorker,
    KillProcess,
    NoticeKind,
    StartTemplate,
    UnwatchListener,
    WatchListener,
)
from djsup.core.events import (
    ConnectionWaiting,
    ListenerBound,
    ListenerFailed,
    LoadSampled,
    ReloadAsked,
    RestartAsked,
    ScaleAsked,
    StopAsked,
    TemplateFailed,
)
from djsup.core.model import Generation, ProcId, ScalingPolicy, SiteSettings, WorkerCount
from djsup.core.snapshot import SiteState

SLEEPER = replace(BLOG, workers=WorkerCount(0, 3), scaling=ScalingPolicy(60.0, 100.0, 500.0))
COLD = replace(SLEEPER, scaling=replace(SLEEPER.scaling, start_asleep=True))


def sample(busy: int = 0, waiting: int = 0, connections: int = 0, requests: int = 0) -> LoadSampled:
    return LoadSampled(BLOG.name, busy, waiting, 0.0, connections, requests)


def awake(site: SiteSettings = SLEEPER) -> Play:
    """It serves with worker 2 of template 1."""
    play = Play()
    play >> changed(site) << ...
    for address in site.listen:
        play >> ListenerBound(address) << ...
    play >> started(1) >> loaded(1) << ... >> started(2) >> ready(2) << ...
    return play


def asleep(site: SiteSettings = SLEEPER) -> Play:
    """It sleeps, its template lives."""
    play = awake(site)
    play >> sample() >> 100.0 >> sample() << ... >> exited(2) << ...
    assert play.site().state is SiteState.SLEEPING
    return play


def cold() -> Play:
    """It sleeps, and nothing of it is loaded."""
    play = Play()
    play >> changed(COLD) << BindListener(HTTP)
    play >> ListenerBound(HTTP) << Said(NoticeKind.SITE_COLD) << WatchListener(HTTP)
    assert play.site().state is SiteState.SLEEPING
    return play


def test_unused_site_lets_its_workers_go_and_has_its_listener_watched() -> None:
    play = awake()
    assert play.site().workers_asked == 1
    play >> sample() >> 99.0 >> sample() >> 1.0
    play >> sample() << Said(NoticeKind.SITE_SLEEPS, "100 s") << DrainWorker(ProcId(2), None, 30.0)
    play << WatchListener(HTTP)
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    site = play.site()
    assert (site.state, site.workers_asked, site.generation, len(site.templates)) == (
        SiteState.SLEEPING,
        0,
        1,
        1,
    )
    play.done()


def test_requests_and_open_connections_keep_a_site_awake() -> None:
    for used in [sample(busy=1), sample(waiting=1), sample(connections=1), sample(requests=7)]:
        play = awake()
        play >> sample() >> 60.0 >> used >> 60.0
        play >> sample(requests=used.requests)
        play.done()


def test_site_with_min_1_never_sleeps() -> None:
    play = awake(replace(SLEEPER, workers=WorkerCount(1, 3)))
    play >> sample() >> 10_000.0 >> sample()
    play.done()


def test_connection_wakes_a_site_from_its_template() -> None:
    play = asleep()
    play >> ConnectionWaiting(HTTP) << Said(NoticeKind.SITE_WAKES, f"a connection waits on {HTTP}")
    play << like(ForkWorker, proc=3, template=1)
    play >> started(3) >> ready(3) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.SITE_SERVING)
    play >> sample() >> 99.0 >> sample()
    play >> 1.0 >> sample() << Said(NoticeKind.SITE_SLEEPS) << like(DrainWorker) << WatchListener(HTTP)
    play.done()


def test_listeners_that_did_not_tell_are_not_watched_any_more_when_a_site_wakes() -> None:
    play = awake(replace(SLEEPER, listen=(HTTP, OTHER)))
    play >> sample() >> 100.0 >> sample() << ...
    (
        play
        >> ConnectionWaiting(OTHER)
        << Said(NoticeKind.SITE_WAKES)
        << like(ForkWorker)
        << UnwatchListener(HTTP)
    )
    play.done()


def test_connection_that_comes_while_the_old_worker_drains_is_not_left_to_wait_for_it() -> None:
    play = awake()
    play >> sample() >> 100.0 >> sample() << ...
    play >> ConnectionWaiting(HTTP) << Said(NoticeKind.SITE_WAKES) << like(ForkWorker, proc=3, slot=1)
    play.done()


def test_template_of_a_site_that_sleeps_goes_after_hibernate_after_and_a_connection_loads_it_anew() -> None:
    play = asleep()
    play >> 499.0
    play >> 1.0 << Said(NoticeKind.SITE_COLD, "slept for long") << KillProcess(ProcId(1), "SIGTERM")
    play >> exited(1) << ForgetGeneration(BLOG.name, Generation(1))
    assert play.site().state is SiteState.SLEEPING
    play >> 10_000.0
    play >> ConnectionWaiting(HTTP) << Said(NoticeKind.SITE_WAKES, "from cold")
    play << like(StartTemplate, generation=2)
    assert play.site().state is SiteState.STARTING
    play.done()


def test_template_that_dies_while_its_site_sleeps_is_not_replaced() -> None:
    play = asleep()
    play >> exited(1, KILLED) << Said(NoticeKind.TEMPLATE_DIED) << Said(NoticeKind.SITE_COLD, "is lost")
    play << like(ForgetGeneration)
    play >> 10_000.0
    play.done()


def test_site_that_starts_asleep_loads_nothing_before_its_first_connection() -> None:
    play = cold()
    play >> 10_000.0
    play >> ConnectionWaiting(HTTP) << Said(NoticeKind.SITE_WAKES) << like(StartTemplate, generation=1)
    play.done()


def test_site_that_starts_asleep_and_cannot_be_bound_says_so_and_is_tried_again() -> None:
    play = Play()
    play >> changed(COLD) << ...
    play >> ListenerFailed(HTTP, "address in use") << Said(NoticeKind.LISTENER_FAILED)
    assert play.site().state is SiteState.FAILED
    play >> 0.3 << BindListener(HTTP)
    play >> ListenerBound(HTTP) << Said(NoticeKind.SITE_COLD) << WatchListener(HTTP)
    assert play.site().error is None
    play.done()


def test_site_that_cannot_wake_backs_off_and_is_not_watched_meanwhile() -> None:
    play = cold()
    play >> ConnectionWaiting(HTTP) << ...
    proc, wait_s = ProcId(1), None
    for _ in range(12):
        (play >> started(proc) >> TemplateFailed(proc, "cannot import", "") << Said(NoticeKind.LOAD_FAILED))
        play >> exited(proc, ENDED) << like(ForgetGeneration)
        wait_s = play.site().next_try_s
        assert wait_s is not None
        play >> wait_s << like(StartTemplate)
        proc = play.asked(StartTemplate)
    assert wait_s is not None
    assert wait_s >= 30.0
    assert play.all.count(WatchListener(HTTP)) == 1


def test_reload_of_a_site_that_sleeps_proves_the_new_code_and_lets_it_sleep_again() -> None:
    play = asleep()
    play >> ReloadAsked(BLOG.name, "me") << Said(NoticeKind.SITE_WAKES, "reloaded")
    play << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, generation=2)
    assert play.asked(ForkWorker) == 4, "the old code serves whoever comes meanwhile"
    (
        play
        << ...
        >> started(4)
        >> ready(4)
        << ...
        >> started(3)
        >> loaded(3)
        << ...
        >> started(5)
        >> ready(5)
        << ...
    )
    assert play.said(NoticeKind.RELOAD_DONE)
    play >> exited(4) << ... >> sample() >> 100.0 << ... >> sample() << Said(NoticeKind.SITE_SLEEPS) << ...
    assert play.site().generation == 2


def test_reload_of_a_cold_site_loads_nothing() -> None:
    play = cold()
    play >> ReloadAsked(BLOG.name, "me")
    (
        play
        >> changed(replace(COLD, env=(("DEBUG", "0"),)), reload=(BLOG.name,))
        << Said(NoticeKind.SETTINGS_CHANGED)
    )
    play >> ConnectionWaiting(HTTP) << Said(NoticeKind.SITE_WAKES)
    play << like(StartTemplate, site=replace(COLD, env=(("DEBUG", "0"),)))
    play.done()


def test_restart_of_a_cold_site_loads_it() -> None:
    play = cold()
    play >> RestartAsked(BLOG.name, "me") << Said(NoticeKind.RESTART_ASKED) << like(StartTemplate) << ...
    assert play.site().state is SiteState.STARTING


def test_cold_site_with_other_addresses_is_bound_there_and_sleeps_on() -> None:
    play = cold()
    play >> changed(replace(COLD, listen=(OTHER,))) << ...
    assert CloseListener(HTTP) in play.all
    assert BindListener(OTHER) in play.all
    play >> ListenerBound(OTHER) << Said(NoticeKind.SITE_COLD) << WatchListener(OTHER)
    play.done()


def test_site_that_may_not_sleep_any_more_wakes() -> None:
    play = cold()
    (
        play
        >> changed(replace(COLD, workers=WorkerCount(1, 3)))
        << Said(NoticeKind.SITE_WAKES)
        << like(StartTemplate)
    )
    play << UnwatchListener(HTTP) << Said(NoticeKind.SETTINGS_CHANGED)
    play.done()


def test_number_by_hand_wakes_a_site_and_keeps_it_awake_but_one_more_for_all_does_not() -> None:
    play = asleep()
    play >> ScaleAsked(BLOG.name, 1, "SIGTTIN", relative=True)
    (
        play
        >> ScaleAsked(BLOG.name, 9, "me")
        << Said(NoticeKind.SITE_WAKES)
        << Said(NoticeKind.SCALED, "3 workers")
    )
    (
        play
        << ...
        >> started(3)
        >> ready(3)
        << ...
        >> started(4)
        >> ready(4)
        << ...
        >> started(5)
        >> ready(5)
        << ...
    )
    play >> sample() >> 10_000.0 >> sample()
    play.done()


def test_stop_of_a_site_that_sleeps_ends_its_template() -> None:
    play = asleep()
    play >> StopAsked("me") << Said(NoticeKind.STOPPING) << CloseListener(HTTP)
    play << KillProcess(ProcId(1), "SIGTERM") << UnwatchListener(HTTP)
    play >> exited(1) << ...
    assert play.fleet.done


def test_busy_workers_bring_more_and_the_notice_says_why() -> None:
    play = awake()
    play >> sample(busy=4) >> 1.0
    (
        play
        >> sample(busy=4)
        << Said(NoticeKind.SCALED, "is scaled to 2 workers: all 4 threads busy")
        << like(ForkWorker)
    )
    play >> started(3) >> ready(3) << ...
    assert play.site().workers_why == "all 4 threads busy"
    play >> sample(busy=1) >> 61.0
    play >> sample(busy=1) << Said(NoticeKind.SCALED, "is scaled to 1 worker: no more were needed for 60 s")
    play << DrainWorker(ProcId(3), Generation(1), 30.0)
    play.done()
