"""The daemon is killed; what the next one makes of what is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
from djsup.core.actions import (
    BindListener,
    CloseListener,
    DrainWorker,
    ForgetGeneration,
    ForkWorker,
    KillProcess,
    NoticeKind,
    StartTemplate,
)
from djsup.core.estate import Estate, Stage
from djsup.core.events import (
    ListenerBound,
    ReloadAsked,
    RestartAsked,
    ScaleAsked,
    SettingsChanged,
    SitesAdopted,
)
from djsup.core.model import Generation, Preload, ProcId, Slot
from djsup.core.snapshot import SiteState

ONE, TWO = Generation(1), Generation(2)


def left(play: Play) -> Estate:
    """What the daemon of this play has written down of blog."""
    found = play.fleet.take_estates()[BLOG.name]
    assert found is not None
    return found


def without(estate: Estate, *procs: int) -> Estate:
    """Some are gone before the next daemon looks."""
    return replace(
        estate,
        templates=tuple(each for each in estate.templates if each.proc not in procs),
        workers=tuple(each for each in estate.workers if each.proc not in procs),
    )


def adopted(estate: Estate) -> Play:
    """Another daemon, just started."""
    play = Play(now=1100.0)
    play >> SitesAdopted((estate,)) << Said(NoticeKind.SITE_ADOPTED)
    return play


def test_what_is_as_it_should_be_is_left_alone() -> None:
    play = adopted(left(curtain_up()))
    play >> changed(BLOG) << Said(NoticeKind.SITE_SERVING, "serves with 2 workers, generation 1")
    play >> 300.0
    play.done()
    assert play.site().state is SiteState.SERVING
    assert [each.pid for each in play.site().workers] == [102, 103]


def test_who_died_meanwhile_is_replaced_from_the_adopted_template() -> None:
    play = adopted(without(left(curtain_up()), 2))
    play >> changed(BLOG) << ForkWorker(ProcId(4), ProcId(1), BLOG.name, ONE, Slot(0))
    play.done()


def test_a_lost_template_is_a_reload_and_nobody_is_drained_before() -> None:
    play = adopted(without(left(curtain_up()), 1))
    play >> changed(BLOG)
    play << Said(NoticeKind.RELOAD_STARTED, "generation 2") << like(StartTemplate, generation=TWO)
    play << Said(NoticeKind.SITE_SERVING)
    play.done()


def test_without_a_template_missing_workers_boot_by_themselves() -> None:
    alone = replace(BLOG, preload=Preload.NEVER)
    play = Play()
    play >> changed(alone) << ... >> ListenerBound(HTTP) << ...
    play >> started(1) >> ready(1) << ...
    play >> started(2) >> ready(2) << ...
    after = adopted(without(left(play), 1))
    after >> changed(alone)
    assert [type(each).__name__ for each in after.came] == ["BootWorker"]


def test_settings_that_changed_meanwhile_are_reloaded_with_the_old_generation_serving() -> None:
    play = adopted(left(curtain_up()))
    play >> changed(replace(BLOG, env=(("DEBUG", "1"),)))
    play << Said(NoticeKind.RELOAD_STARTED) << like(StartTemplate, generation=TWO) << ...
    assert len(play.site().workers) == 2


def test_a_site_that_is_named_no_more_is_drained_and_its_listener_closed() -> None:
    play = adopted(left(curtain_up()))
    play >> changed(SHOP) << Said(NoticeKind.SITE_REMOVED) << CloseListener(HTTP)
    play << like(DrainWorker, proc=ProcId(2), handover_to=None)
    play << like(DrainWorker, proc=ProcId(3), handover_to=None)
    play << KillProcess(ProcId(1), "SIGTERM") << BindListener(OTHER)
    play.done()


def test_a_reload_under_way_is_begun_again_and_its_processes_end() -> None:
    before = curtain_up()
    before >> ReloadAsked(BLOG.name, "root (cli)") << ... >> started(4) >> loaded(4) << ...
    before >> started(5) << ...
    play = adopted(left(before))
    play >> changed(BLOG)
    play << Said(NoticeKind.RELOAD_STARTED, "generation 3") << like(StartTemplate, generation=Generation(3))
    (
        play
        << KillProcess(ProcId(5), "SIGKILL")
        << KillProcess(ProcId(4), "SIGTERM")
        << Said(NoticeKind.SITE_SERVING)
    )
    play >> exited(5) << Said(NoticeKind.WORKER_DRAINED) >> exited(4) << ForgetGeneration(BLOG.name, TWO)
    play.done()


@pytest.mark.parametrize("begun", [True, False])
def test_a_trial_that_was_asked_for_outlives_the_daemon(begun: bool) -> None:
    play = curtain_up()
    if not begun:  # it waits for the end of a restart
        play >> RestartAsked(BLOG.name, "me") << ...
    play >> ReloadAsked(BLOG.name, "me", 300.0) << ...
    estate = left(play)
    assert (estate.reloading, estate.canary_s) == ("me", 300.0)
    if begun:
        after = adopted(estate)
        after >> changed(BLOG) << Said(NoticeKind.RELOAD_STARTED) << ...
        template = after.asked(StartTemplate)
        after >> started(template) >> loaded(template) << ...
        proof = after.asked(ForkWorker)
        after >> started(proof) >> ready(proof) << ...
        assert "for 300 s" in after.said(NoticeKind.CANARY_STARTED)[0]


def test_a_number_scaled_by_hand_outlives_the_daemon() -> None:
    before = curtain_up()
    before >> ScaleAsked(BLOG.name, 3, "root (cli)") << ... >> started(4) >> ready(4) << ...
    play = adopted(left(before))
    play >> changed(BLOG) << Said(NoticeKind.SITE_SERVING, "3 workers")
    play.done()


def test_one_that_booted_gets_its_time_again_and_then_serves() -> None:
    before = curtain_up()
    before >> ScaleAsked(BLOG.name, 3, "root (cli)") << ... >> started(4)
    play = adopted(left(before))
    play >> changed(BLOG)
    play >> ready(4) << Said(NoticeKind.WORKER_READY) << Said(NoticeKind.SITE_SERVING)
    play.done()


def test_a_site_that_lost_its_sockets_ends_and_begins_anew() -> None:
    lost = left(curtain_up())
    leaving = tuple(replace(each, stage=Stage.LEAVING) for each in lost.workers)
    play = adopted(replace(lost, serving=None, templates=(), workers=leaving))
    play >> changed(BLOG) << BindListener(HTTP)
    play >> exited(2) << Said(NoticeKind.WORKER_DRAINED)
    play >> ListenerBound(HTTP) << like(StartTemplate, generation=TWO)
    play.done()


def test_a_process_never_gets_the_name_of_an_adopted_one() -> None:
    play = adopted(left(curtain_up()))
    play >> changed(BLOG, SHOP) << ...
    play >> ListenerBound(OTHER)
    assert play.asked(StartTemplate) == 4
    play << ...


def test_nothing_is_left_of_a_site_that_has_ended() -> None:
    play = curtain_up()
    play >> SettingsChanged(replace(changed().settings), "root (HUP)") << ...
    play >> exited(1) << ... >> exited(2) << ... >> exited(3) << ...
    assert play.fleet.take_estates() == {BLOG.name: None}
