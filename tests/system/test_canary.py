"""A canary: new code takes a share of the real traffic, and is judged by it before it takes over."""

from __future__ import annotations

import signal

import pytest

from system.daemon import URLS, DaemonUnderTest, Project, wait_for
from system.load import Load

FAILS = URLS.replace("def index(request):\n", "def index(request):\n    raise ValueError('new mistake')\n")
SLOW = URLS.replace("def index(request):\n", "def index(request):\n    time.sleep(0.1)\n")


def canary(daemon: DaemonUnderTest, settings: str) -> None:
    daemon.sites["blog"] += f"\n[sites.blog.reload]\ncanary = {{ {settings} }}\n"
    daemon.write()
    daemon.start()


def load(daemon: DaemonUnderTest) -> Load:
    """New connections, which the kernel gives to old and new workers alike."""
    return Load(daemon.ports["blog"], connections=4, keep_alive=False, pause_s=0.01)


def test_code_that_answers_well_takes_over_with_its_figures_in_the_report(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    canary(daemon, "seconds = 3, min_requests = 5, max_slowdown = 0")
    pids = {worker["pid"] for worker in daemon.workers("blog")}
    with load(daemon) as running:
        blog.deploy("two")
        daemon.done("reload", "blog", "--no-wait")
        trial = wait_for(
            lambda: (daemon.status("blog")["last_reload"] or {}).get("canary"), "the trial to be shown"
        )
        assert "of 3 s" in trial
        assert " requests, " in trial
        there = {worker["pid"] for worker in daemon.workers("blog") if worker["state"] in ("idle", "busy")}
        assert pids < there
        assert len(there) == len(pids) + 1, "one worker of the new code, beside all of the old"
        assert daemon.status("blog")["state"] == "reloading"
        wait_for(lambda: daemon.status("blog")["generation"] == 2, "the new code to take over")
        running.wait_for_requests(20)
    assert running.outcome.bodies.keys() == {b"one", b"two"}
    report = daemon.status("blog")["last_reload"]
    assert report["result"] == "done"
    assert "old code: " in report["canary"]
    assert {"canary-started", "canary-passed"} <= {event["kind"] for event in daemon.events("blog")}


def test_code_that_fails_is_rolled_back_before_the_time_is_over(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    running = Load(daemon.ports["blog"], connections=4, keep_alive=False, pause_s=0.01, may_fail=True)
    with running:
        running.wait_for_requests(20)
        pids = {worker["pid"] for worker in daemon.workers("blog")}
        blog.deploy(urls=FAILS % {"version": "two", "health": 200})
        result = daemon.run("reload", "blog", "--canary", "10m")
        assert result.status == 1, result
        assert "fails more often than the old" in result.stderr
        assert "requests" in result.stderr
        site = daemon.status("blog")
        assert (site["generation"], site["last_reload"]["result"]) == (1, "rolled-back")
        assert {worker["pid"] for worker in site["workers"] if worker["generation"] == 1} == pids
    assert b"one" in running.outcome.bodies


def test_code_that_is_slow_is_rolled_back_and_a_trial_can_be_left_out(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    canary(daemon, "seconds = 2, min_requests = 3, max_slowdown = 4")
    with load(daemon) as running:
        running.wait_for_requests(20)
        blog.deploy(urls=SLOW % {"version": "slow", "health": 200})
        result = daemon.run("reload", "blog")
        assert result.status == 1, result
        assert "slower than the old" in result.stderr
        daemon.done("reload", "blog", "--canary", "0")
    assert daemon.status("blog")["last_reload"]["canary"] == ""
    assert daemon.get("blog") == (200, b"slow")


def test_a_stop_in_the_middle_of_a_trial_is_obeyed_at_once(daemon: DaemonUnderTest, blog: Project) -> None:
    canary(daemon, 'seconds = "10m"')
    daemon.done("reload", "--no-wait")
    wait_for(lambda: daemon.status("blog")["last_reload"]["phase"] == "trying", "the trial")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0


@pytest.mark.parametrize("wrong", ["soon", "-3", "2d5"])
def test_a_wrong_time_is_wrong_usage(daemon: DaemonUnderTest, blog: Project, wrong: str) -> None:
    assert daemon.run("reload", "--canary", wrong).status == 2
