"""The router's process, as a play: started when its address is bound, started again at once, ended with the daemon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.playbook import BLOG, HTTP, KILLED, OTHER, SHOP, Play, Said, exited, like, settings, started
from core.test_playbook_upgrade import upgraded
from djsup.core.actions import BindListener, CloseListener, KillProcess, NoticeKind, Quit, StartRouter
from djsup.core.events import ListenerBound, ListenerFailed, RequestWaiting, SettingsChanged, StopAsked
from djsup.core.fleet import ProcessKind
from djsup.core.model import ProcId, ScalingPolicy, Settings, SiteSettings, WorkerCount
from djsup.core.snapshot import SiteState

SLEEPY: dict[str, Any] = {"workers": WorkerCount(0, 2), "scaling": ScalingPolicy(start_asleep=True)}
SHARED = tuple(replace(each, listen=(), shared=(HTTP,), **SLEEPY) for each in (BLOG, SHOP))


def routed(*sites: SiteSettings) -> Settings:
    return replace(settings(*sites), shared=(HTTP,))


def opened() -> tuple[Play, ProcId]:
    play = Play()
    play >> SettingsChanged(routed(*SHARED), "start") << ...
    assert BindListener(HTTP) in play.all
    play >> ListenerBound(HTTP) << like(StartRouter)
    proc = next(each.proc for each in play.all if isinstance(each, StartRouter))
    play >> started(proc) << Said(NoticeKind.ROUTER_STARTED, f"(pid {100 + proc})")
    return play, proc


def test_a_router_is_started_when_its_address_is_bound() -> None:
    play, proc = opened()
    view = play.fleet.process(proc)
    assert view is not None
    assert (view.kind, view.pid) == (ProcessKind.ROUTER, 100 + proc)
    play.done()


def test_a_router_that_had_lived_is_started_again_at_once() -> None:
    play, proc = opened()
    play >> 1.0 >> exited(proc, KILLED) << Said(NoticeKind.ROUTER_DIED, "SIGKILL") << like(StartRouter)
    play.done()


def test_a_router_that_dies_at_once_waits_longer_and_longer() -> None:
    play, proc = opened()
    waits = []
    for _ in range(4):
        before = play.now
        play >> exited(proc, KILLED) << Said(NoticeKind.ROUTER_DIED)
        play >> 5.0 << like(StartRouter)
        proc = ProcId(proc + 1)
        waits.append(next(each.proc for each in reversed(play.all) if isinstance(each, StartRouter)))
        assert play.now == before + 5.0
        play >> started(proc) << ...
    assert waits == sorted(set(waits))


def test_a_request_that_waits_wakes_its_site_and_no_other() -> None:
    play, _ = opened()
    assert [play.site(name).state for name in ("blog", "shop")] == [SiteState.SLEEPING] * 2
    (
        play
        >> RequestWaiting(SHOP.name)
        << Said(NoticeKind.SITE_WAKES, "a request waits at a shared address")
        << ...
    )
    assert play.site("blog").state is SiteState.SLEEPING
    assert play.site("shop").state is not SiteState.SLEEPING


def test_an_address_that_cannot_be_had_is_tried_again() -> None:
    play = Play()
    play >> SettingsChanged(routed(*SHARED), "start") << ...
    play >> ListenerFailed(HTTP, "in use") << Said(NoticeKind.LISTENER_FAILED, "router: cannot listen on")
    play >> 1.0 << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartRouter)


def test_without_shared_addresses_the_router_is_ended() -> None:
    play, proc = opened()
    alone = replace(BLOG, listen=(OTHER,), **SLEEPY)
    play >> SettingsChanged(settings(alone), "root") << ...
    assert KillProcess(proc, "SIGTERM") in play.all
    assert CloseListener(HTTP) in play.all


def test_another_program_of_the_daemon_starts_a_router_of_its_own() -> None:
    before, _ = opened()
    play = upgraded(before) << BindListener(HTTP)
    play >> ListenerBound(HTTP) << like(StartRouter)
    play.done()


def test_the_daemon_ends_when_the_router_has_gone() -> None:
    play, proc = opened()
    play >> StopAsked("TERM") << ...
    assert KillProcess(proc, "SIGTERM") in play.all
    assert CloseListener(HTTP) in play.all
    assert Quit() not in play.all
    play >> exited(proc) << Quit()
