"""Who has a processor first on a busy machine: what answers requests. What loads code has it last."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from djsup.turns import Turn
from scheduling import knows_sessions, knows_turns, session_niceness, turns
from system.bare import BareSite
from system.daemon import DaemonUnderTest, wait_for
from system.test_router import router_of, shared

BOOT_S = 10


def named(
    daemon: DaemonUnderTest, name: str, other_than: psutil.Process | None = None
) -> psutil.Process | None:
    return next((each for each in daemon.family() if each.name() == name and each != other_than), None)


def stands_back(process: psutil.Process) -> bool:
    with suppress(OSError):  # it has ended
        return session_niceness(process.pid) == 10
    return False


@knows_turns
def test_who_answers_takes_short_turns_and_who_loads_long_ones(daemon: DaemonUnderTest, django: Path) -> None:
    usual = turns(1)
    shared(
        daemon,
        django,
        blog='hosts = ["localhost"]\nworkers = 2\nprograms.helper.command = "sleep 60"',
        shop='hosts = ["shop.localhost"]\nworkers = 1\npreload = false',
    )
    daemon.start()
    workers = [each["pid"] for site in ("blog", "shop") for each in daemon.workers(site)]
    router = router_of(daemon)
    assert router is not None
    wait_for(lambda: all(turns(pid) == {Turn.SHORT} for pid in workers), "short turns")
    template = named(daemon, "djsup blog tpl")
    helper = named(daemon, "sleep")
    assert template is not None
    assert helper is not None
    assert turns(template.pid) == turns(daemon.pid) == {Turn.LONG}
    assert turns(helper.pid) == turns(router.pid) == usual


@knows_sessions
def test_loading_stands_back_and_nobody_for_ever(daemon: DaemonUnderTest) -> None:
    site = BareSite(daemon, "blog", f'workers = 1\nlimits.boot_timeout = "{BOOT_S}s"')
    daemon.start()
    old = named(daemon, "djsup blog tpl")
    assert old is not None
    assert session_niceness(old.pid) == 0
    site.deploy("two", top="import time\ntime.sleep(60)\n")
    daemon.reload("blog", wait=False)
    new = wait_for(lambda: next(filter(stands_back, daemon.family()), None), "the new code to load")
    if os.geteuid() == 0:
        assert os.sched_getscheduler(new.pid) == os.SCHED_IDLE
    wait_for(lambda: session_niceness(new.pid) == 0, "the end of its patience")
    assert len(daemon.workers("blog")) == 1, "it has not loaded yet"
    site.reload("three")
    wait_for(lambda: len(site.pids()) == 1, "the old worker to be gone")
    assert {session_niceness(pid) for pid in site.pids()} == {0}
    assert {os.sched_getscheduler(pid) for pid in site.pids()} == {os.SCHED_OTHER}
    newest = wait_for(lambda: named(daemon, "djsup blog tpl"), "one template to be left")
    assert os.sched_getscheduler(newest.pid) == os.SCHED_OTHER


@knows_sessions
def test_where_nothing_serves_nothing_stands_back(daemon: DaemonUnderTest) -> None:
    BareSite(daemon, "blog", "workers = 1").deploy("one", top="import time\ntime.sleep(60)\n")
    daemon.start(wait=False)
    loads = wait_for(lambda: named(daemon, "djsup blog tpl"), "the site to load")
    assert session_niceness(loads.pid) == 0
