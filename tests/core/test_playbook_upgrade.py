"""The daemon replaces its own program; what the new one makes of what it is handed."""

from __future__ import annotations

from dataclasses import replace

from pydantic import TypeAdapter

from core.playbook import (
    BLOG,
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
from djsup.core.actions import ForkWorker, KillProcess, NoticeKind, StartDashboard, StartTemplate
from djsup.core.estate import Estate
from djsup.core.events import ListenerBound, ReloadAsked, Replaced, SitesAdopted
from djsup.core.model import Address, AddressKind, DashboardSettings, Generation, ProcId
from djsup.core.snapshot import SiteState

TWO = Generation(2)
PANEL = Address(AddressKind.TCP, "127.0.0.1", 9000)
ESTATES = TypeAdapter(tuple[Estate, ...])


def upgraded(before: Play, *, dashboard_anew: bool = False, reloading: str | None = None) -> Play:
    """The new program, which knows no more than what can be written down."""
    sites, last_proc, dashboard, keeper = before.fleet.bequest()
    assert before.fleet.settings is not None
    read = ESTATES.validate_json(ESTATES.dump_json(sites))
    if reloading is not None:
        read = tuple(replace(each, reloading=reloading) for each in read)
    play = Play(now=before.now + 0.5)
    return play >> SitesAdopted(
        read, Replaced(before.fleet.settings, last_proc, dashboard, dashboard_anew, keeper)
    )


def test_nothing_is_said_or_done_where_nothing_is_to_be_done() -> None:
    before = curtain_up()
    play = upgraded(before)
    play >> 300.0
    play.done()
    assert play.site().state is SiteState.SERVING
    assert [each.pid for each in play.site().workers] == [each.pid for each in before.site().workers]


def test_the_settings_of_now_are_a_change_like_any_other() -> None:
    play = upgraded(curtain_up())
    play >> changed(replace(BLOG, env=(("DEBUG", "1"),)))
    play << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, generation=TWO)
    play << Said(NoticeKind.SETTINGS_CHANGED)
    play.done()


def test_a_reload_goes_on_where_it_was_and_reports_to_who_has_asked() -> None:
    before = curtain_up()
    before >> ReloadAsked(BLOG.name, "anna") << ... >> started(4)
    play = upgraded(before)
    assert play.site().state is SiteState.RELOADING
    play >> loaded(4) << like(ForkWorker, generation=TWO)
    proof = play.asked(ForkWorker)
    play >> started(proof) >> ready(proof) << ...
    assert play.site().last_reload is not None
    assert play.site().last_reload.by == "anna"  # type: ignore[union-attr]


def test_a_first_worker_that_was_not_born_yet_is_asked_for_again() -> None:
    before = curtain_up()
    before >> ReloadAsked(BLOG.name, "anna") << ... >> started(4) >> loaded(4) << ...
    unborn = before.asked(ForkWorker)
    play = upgraded(before)
    play << like(ForkWorker, generation=TWO)
    play.done()
    assert play.asked(ForkWorker) > unborn


def test_other_messages_are_a_reload_after_which_no_old_worker_is_left() -> None:
    play = upgraded(curtain_up(), reloading="djsup: upgraded")
    play << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, generation=TWO)
    play.done()


def test_a_dashboard_of_another_version_is_started_anew_and_one_of_the_same_is_kept() -> None:
    with_panel = replace(settings(BLOG), dashboard=DashboardSettings(PANEL, "/token"))
    before = Play()
    before >> replace(changed(BLOG), settings=with_panel) << ...
    before >> ListenerBound(PANEL) << like(StartDashboard) << ...
    (proc,) = (each.proc for each in before.all if isinstance(each, StartDashboard))
    before >> started(proc) << ...
    kept = upgraded(before)
    assert not [each for each in kept.came if isinstance(each, (StartDashboard, KillProcess))]
    anew = upgraded(before, dashboard_anew=True)
    assert KillProcess(ProcId(proc), "SIGTERM") in anew.came
    anew.came.clear()
    anew >> ListenerBound(PANEL) << ... >> exited(proc) << like(StartDashboard)
