"""The daemon is killed, the sites live, and the next daemon takes them over."""

from __future__ import annotations

import os
import signal

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load


def pids(daemon: DaemonUnderTest) -> set[int]:
    workers = daemon.workers("blog")
    return {worker["pid"] for worker in workers if worker["state"] in ("idle", "busy")}


def kill(daemon: DaemonUnderTest) -> None:
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()


def test_a_new_daemon_adopts_everything_and_no_client_notices(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    before, (template,) = pids(daemon), daemon.status("blog")["templates"]
    with Load(daemon.ports["blog"], connections=8) as load:
        kill(daemon)
        load.wait_for_requests(100)
        daemon.start()
        assert pids(daemon) == before
        assert daemon.status("blog")["templates"][0]["pid"] == template["pid"]
        load.wait_for_requests(100)
        assert daemon.status("blog")["requests"] >= 200, "the scoreboard is the same"
        daemon.done("scale", "blog=3")
        wait_for(lambda: len(pids(daemon)) == 3, "the third worker")
        blog.deploy("two")
        daemon.done("reload")
        assert not pids(daemon) & before
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert load.outcome.bodies.keys() == {b"one", b"two"}
    assert "mistake" not in daemon.log
