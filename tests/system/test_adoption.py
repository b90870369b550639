"""The daemon is killed, the sites live, and the next daemon takes them over."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil

from djsup_worker import messages
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load


def pids(daemon: DaemonUnderTest) -> set[int]:
    return daemon.serving("blog")


def kill(daemon: DaemonUnderTest) -> None:
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()


def is_over(pid: int) -> bool:
    """Whether a process has ended; in a container nobody may have reaped it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_new_daemon_adopts_everything_and_no_client_notices(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    before, (template,) = pids(daemon), daemon.status("blog")["templates"]
    with Load(daemon.ports["blog"], connections=8) as load:
        kill(daemon)
        load.wait_for_requests(100)
        daemon.start()
        assert pids(daemon) == before
        assert [each["pid"] for each in daemon.status("blog")["templates"]] == [template["pid"]]
        assert daemon.status("blog")["requests"] >= 100, "the scoreboard is the same"
        traced = daemon.ask("trace", site="blog")["processes"]
        assert {each["pid"]: each["error"] for each in traced} == dict.fromkeys([*before, template["pid"]])
        daemon.get("blog", "/loud")
        wait_for(lambda: "printed to stderr" in daemon.log, "what an adopted worker prints")
        daemon.ask("scale", site="blog", workers=3)
        wait_for(lambda: len(pids(daemon)) == 3, "a worker from the adopted template")
        blog.deploy("two")
        daemon.reload_well()
        wait_for(lambda: all(is_over(pid) for pid in before), "the adopted workers to go")
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert load.outcome.bodies.keys() == {b"one", b"two"}
    assert "mistake" not in daemon.log
    family = pids(daemon)
    daemon.done("stop")
    assert daemon.wait_end() == 0
    assert all(is_over(pid) for pid in family)
    assert not (daemon.runtime / "estates").exists()


def test_adoption_needs_no_template_and_replaces_who_died_meanwhile(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.sites["blog"] += "preload = false\n"
    daemon.write()
    daemon.start()
    victim, other = sorted(pids(daemon))
    with Load(daemon.ports["blog"], connections=4, may_fail=True):
        kill(daemon)
        os.kill(victim, signal.SIGKILL)
        daemon.start()
        wait_for(lambda: len(pids(daemon)) == 2, "the replacement")
        assert other in pids(daemon)
        os.kill(other, signal.SIGKILL)
        wait_for(lambda: len(pids(daemon)) == 2 and other not in pids(daemon), "the next replacement")
    (event,) = [event for event in daemon.events("blog") if event["kind"] == "worker-died"]
    assert str(other) in event["text"]


def call_as_orphan(daemon: DaemonUnderTest) -> messages.Message | None:
    """What the daemon says to us, who are none; None: it hung up before it had read what we said."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger,
        socket.create_server(("127.0.0.1", 0)) as trap,
    ):
        stranger.settimeout(10)
        stranger.connect(str(daemon.runtime / "home.sock"))
        try:
            messages.send(stranger, messages.Orphan(ready=True), [trap.fileno()] * 4)
            said = messages.receive(stranger)
        except ConnectionError:
            return None
        return None if said is None else said[0]


def test_a_latecomer_is_let_in_and_a_stranger_is_not(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    late, other = sorted(pids(daemon))
    os.kill(late, signal.SIGSTOP)
    try:
        kill(daemon)
        daemon.start()
        assert pids(daemon) == {late, other}, "it is known, though it has not called"
        wait_for(lambda: isinstance(call_as_orphan(daemon), messages.Drain), "the stranger to be told to go")
        wait_for(lambda: f"pid {os.getpid()} calls as an orphan" in daemon.log, "the log to tell of it")
    finally:
        os.kill(late, signal.SIGCONT)
    wait_for(lambda: not (daemon.runtime / "home.sock").exists(), "the latecomer to call")
    blog.deploy("two")
    with Load(daemon.ports["blog"], connections=4) as load:
        daemon.reload_well()
    assert load.outcome.closed == 0, load.outcome.summary()
    wait_for(lambda: is_over(late), "the latecomer to drain")


def test_settings_changed_while_no_daemon_was_there_are_reloaded(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    daemon.start()
    before = pids(daemon)
    with Load(daemon.ports["blog"], connections=4) as load:
        kill(daemon)
        daemon.site("blog", django, more='workers = 2\nhealth.path = "/healthz"\nenv = { COLOUR = "blue" }')
        daemon.start()
        wait_for(
            lambda: daemon.status("blog")["generation"] == 2 and not pids(daemon) & before, "the new settings"
        )
        assert daemon.json("blog", "/about")["environ"]["COLOUR"] == "blue"
    assert load.outcome.closed == 0, load.outcome.summary()
