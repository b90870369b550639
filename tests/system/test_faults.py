"""Faults on purpose: what is killed is replaced, and nobody else notices."""

from __future__ import annotations

import http.client
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load


def pids(daemon: DaemonUnderTest) -> set[int]:
    return daemon.serving("blog")


def test_a_killed_worker_is_replaced_and_only_its_own_requests_fail(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    before = pids(daemon)
    victim, other = sorted(before)
    with Load(daemon.ports["blog"], connections=16, may_fail=True) as load:
        load.wait_for_requests(500)  # every connection has been accepted by now
        held = daemon_connections(daemon, victim)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(pids(daemon)) == 2 and victim not in pids(daemon), "the replacement")
        load.wait_for_requests(200)
    assert other in pids(daemon)
    # A client of the victim sees its connection end once; everyone else sees nothing.
    assert len(load.outcome.failures) <= held, (held, load.outcome.summary())
    assert all("500" not in failure for failure in load.outcome.failures)
    (event,) = [event for event in daemon.events("blog") if event["kind"] == "worker-died"]
    assert "SIGKILL" in event["text"]


def daemon_connections(daemon: DaemonUnderTest, pid: int) -> int:
    """Connections that this worker holds, as the kernel counts them; a margin for those just opened."""
    port = daemon.ports["blog"]
    connections = psutil.Process(pid).net_connections("tcp")
    return (
        sum(1 for each in connections if each.status == psutil.CONN_ESTABLISHED and each.laddr[1] == port) + 1
    )


def test_a_killed_template_is_replaced_and_nobody_notices(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    (template,) = daemon.status("blog")["templates"]
    with Load(daemon.ports["blog"], connections=16) as load:
        os.kill(template["pid"], signal.SIGKILL)

        def replaced() -> bool:
            site = daemon.status("blog")
            return site["state"] == "serving" and [t["pid"] for t in site["templates"]] != [template["pid"]]

        wait_for(replaced, "another template")
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()


def test_a_worker_that_dies_young_again_and_again_backs_off_and_comes_back(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    for _ in range(3):
        victims = wait_for(lambda: pids(daemon), "a worker to kill")
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        wait_for(lambda victims=victims: not victims & pids(daemon), "the deaths to be seen")  # type: ignore[misc]
    daemon.wait_state("blog", "serving")
    assert daemon.get("blog") == (200, b"one")


def test_the_last_words_of_a_worker_are_in_the_event(daemon: DaemonUnderTest, blog: Project) -> None:
    urls = (
        "import os, sys\nfrom django.http import HttpResponse\nfrom django.urls import path\n"
        "def die(request):\n    print('the disk is on fire', file=sys.stderr)\n    os._exit(17)\n"
        "urlpatterns = [path('die', die), path('healthz', lambda request: HttpResponse())]\n"
    )
    blog.deploy(urls=urls)
    daemon.start()
    try_to_get(daemon, "/die")

    def death() -> dict[str, str] | None:
        found = [event for event in daemon.events("blog") if event["kind"] == "worker-died"]
        return found[0] if found else None

    event = wait_for(death, "the death")
    assert "17" in event["text"]
    assert "the disk is on fire" in event["details"]


def test_an_overdue_request_is_reported_with_its_stack_and_its_worker_replaced(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.sites["blog"] += "\n[sites.blog.limits]\nrequest_timeout = 1\ndrain_timeout = 1\n"
    daemon.write()
    daemon.start()
    before = pids(daemon)
    asking = threading.Thread(target=try_to_get, args=(daemon, "/slow?s=60"))
    asking.start()
    wait_for(lambda: len(pids(daemon) - before) == 1 and len(pids(daemon)) == 2, "the replacement")

    def overdue() -> list[dict[str, str]]:
        return [event for event in daemon.events("blog") if event["kind"] == "request-overdue"]

    (event,) = wait_for(overdue, "the event, which waits a moment for the stacks")
    assert "/slow" in event["text"]
    assert "in slow" in event["details"]
    assert "in slow" in daemon.log
    asking.join(30)
    assert not asking.is_alive()


def try_to_get(daemon: DaemonUnderTest, path: str) -> None:
    with suppress(OSError, http.client.HTTPException):
        daemon.get("blog", path)


def test_a_killed_daemon_leaves_nothing_behind_once_the_grace_is_over(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.top = "orphan_grace = 2"
    daemon.write()
    daemon.start()
    family = daemon.family()
    assert len(family) >= 3
    with Load(daemon.ports["blog"], connections=4) as load:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait_end()
        load.wait_for_requests(200)  # the sites live while the daemon is dead
    assert load.outcome.closed == 0, load.outcome.summary()
    _gone, alive = psutil.wait_procs(family, timeout=15)
    assert not alive


def test_term_drains_and_a_running_request_is_answered(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    family = daemon.family()
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(daemon.get("blog", "/slow?s=2")))
    asking.start()
    wait_for(lambda: any(worker["current"] for worker in daemon.workers("blog")), "the request to run")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
    asking.join(10)
    assert answers == [(200, b"one")]
    assert not [process for process in family if process.is_running()]
    assert not (daemon.runtime / "djsup.pid").exists()
    assert not (daemon.runtime / "control.sock").exists()


def test_int_stops_at_once(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    asking = threading.Thread(target=try_to_get, args=(daemon, "/slow?s=60"))
    asking.start()
    wait_for(lambda: any(worker["current"] for worker in daemon.workers("blog")), "the request to run")
    begun = time.monotonic()
    daemon.signal(signal.SIGINT)
    assert daemon.wait_end() == 0
    assert time.monotonic() - begun < 10
    asking.join(10)


def test_a_second_start_is_refused_and_names_the_pid(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    second = subprocess.run(
        [sys.executable, "-m", "djsup", "start", "-c", str(daemon.config)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert str(daemon.pid) in second.stderr
    assert daemon.get("blog") == (200, b"one")


def test_a_killed_daemon_can_be_started_again_on_the_same_directory(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.top = "orphan_grace = 0"
    daemon.write()
    daemon.start()
    family = daemon.family()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()
    psutil.wait_procs(family, timeout=15)
    daemon.start()
    daemon.wait_state("blog", "serving")
    assert daemon.get("blog") == (200, b"one")


def test_reloads_and_deaths_leave_no_descriptor_behind(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.sites["blog"] += "\n[sites.blog.reload]\nkeep_previous = 0\n"
    daemon.write()
    daemon.start()
    daemon.reload_well()
    process = psutil.Process(daemon.pid)
    settled = wait_for_settled(process, daemon)
    for _ in range(5):
        daemon.reload_well()
        victim = min(pids(daemon))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in pids(daemon), "its death to be seen")  # noqa: B023 - waited for here
        wait_for(lambda: len(pids(daemon)) == 2, "the replacement")
    assert wait_for_settled(process, daemon) <= settled + 2


def wait_for_settled(process: psutil.Process, daemon: DaemonUnderTest) -> int:
    """Descriptors of the daemon once only one generation is left, and all of it serves."""

    def settled() -> bool:
        site = daemon.status("blog")
        generations = [each["generation"] for each in site["workers"] + site["templates"]]
        return len(generations) == 3 and len(set(generations)) == 1 and len(pids(daemon)) == 2

    wait_for(settled, "the old generation to go")
    return int(process.num_fds())


def test_events_outlive_the_daemon(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    before = daemon.events("blog")
    daemon.signal(signal.SIGTERM)
    daemon.wait_end()
    daemon.start()
    after = daemon.events("blog")
    assert before
    assert after[: len(before)] == before
    assert [event["id"] for event in after] == sorted({event["id"] for event in after})


def test_a_daemon_without_descriptors_lives_on_and_replaces_who_dies_once_it_has_some(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    victim, other = sorted(pids(daemon))
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with Load(daemon.ports["blog"], connections=4, may_fail=True) as load:
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "no descriptors" in daemon.log, "a replacement that cannot be had")
        load.wait_for_requests(20)
    assert daemon.process is not None
    assert daemon.process.poll() is None
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: len(pids(daemon)) == 2, "the replacement")
    assert other in pids(daemon)
    assert "mistake" not in daemon.log


def test_what_could_not_be_written_down_for_the_next_daemon_is_written_once_it_can_be(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    estates, away = daemon.runtime / "estates", daemon.runtime / "away"
    estates.rename(away)
    estates.touch()  # no folder, so nothing can be written there: root is not stopped by a mode
    os.kill(min(pids(daemon)), signal.SIGKILL)
    wait_for(lambda: daemon.log.count(" serves\n") == 3, "the replacement to serve")
    wait_for(lambda: "cannot write what a daemon would need" in daemon.log, "the complaint")
    expected = pids(daemon)
    estates.unlink()
    wait_for((estates / "blog.json").exists, "the estate to be written")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()
    daemon.start()
    wait_for(lambda: pids(daemon) == expected, "the same workers")
    assert "is adopted from an earlier daemon: 2 workers" in daemon.log
