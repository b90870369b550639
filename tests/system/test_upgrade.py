"""The daemon replaces its own program: the same pid, and nobody notices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from djsup.shell import sealed
from system.daemon import WSGI, DaemonUnderTest, Project, wait_for
from system.load import Load
from system.test_systemd import Manager, manager  # noqa: F401 - a fixture

TALKING = """
import os, socket, sys, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1\\nSTATUS=cooks")
number = 0
while not os.path.exists("silence"):
    number += 1
    print("line", number, flush=True)
    notify.send(b"WATCHDOG=1")
    time.sleep(0.05)
time.sleep(600)
"""


def pids(daemon: DaemonUnderTest) -> set[int]:
    return daemon.serving("blog")


def template(daemon: DaemonUnderTest) -> int:
    (found,) = daemon.status("blog")["templates"]
    pid: int = found["pid"]
    return pid


def kinds(daemon: DaemonUnderTest, kind: str) -> list[dict[str, Any]]:
    return [event for event in daemon.events() if event["kind"] == kind]


def descriptors(daemon: DaemonUnderTest) -> Counter[str]:
    """How many descriptors of each kind the daemon has; without sockets, for clients come and go, and without files."""
    links = []
    for each in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(each.readlink()).split(" ")[0])
    kinds = (link if link.startswith("/memfd:") else link.split(":[")[0] for link in links)
    return Counter(kind for kind in kinds if kind.startswith(("/memfd:", "anon_inode", "pipe")))


def test_an_upgrade_keeps_processes_counters_and_connections(daemon: DaemonUnderTest, blog: Project) -> None:
    (blog.directory / "talk.py").write_text(TALKING)
    daemon.sites["blog"] += (
        '[sites.blog.programs.talk]\ncommand = "python talk.py"\nnotify = true\nwatchdog = "20s"\n'
    )
    daemon.dashboard()
    daemon.write()
    daemon.start()
    blog.deploy("two")
    daemon.reload_well()
    wait_for(
        lambda: daemon.status("blog")["programs"][0]["status_text"] == "cooks", "the program to be ready"
    )
    before, picture = daemon.status("blog"), daemon.status()
    serving, loaded = pids(daemon), {each["pid"] for each in before["templates"]}
    family = {each.pid for each in daemon.family()}
    with Load(daemon.ports["blog"], connections=8) as load:
        load.wait_for_requests(200)
        time.sleep(1.2)
        handed_at = int(time.time())
        said = daemon.done("upgrade").stdout
        load.wait_for_requests(200)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert re.match(r"djsup (\S+) → \1, 1 site, 2 workers kept, took \d+ ms\n$", said), said
    assert {each.pid for each in daemon.family()} == family, "nothing ended and nothing was started"
    after = daemon.status("blog")
    time.sleep(1.2)  # until the second is looked at in which the last request was
    measured = daemon.ask("series", site="blog", step=1, **{"from": int(time.time()) - 60})
    seconds = [(at, rate) for at, rate in enumerate(measured["requests_per_s"]) if rate is not None]
    assert any(rate and measured["t"][at] < handed_at for at, rate in seconds), "what was before is there"
    # Else all that was ever answered would be the rate of the first second.
    first = next(rate for at, rate in seconds if measured["t"][at] >= handed_at)
    assert first < after["requests"] * 0.8, (seconds, handed_at, after["requests"])
    assert pids(daemon) == serving
    assert {each["pid"] for each in after["templates"]} == loaded, "the former one is kept, too"
    assert after["requests"] >= before["requests"] + 200
    assert (after["last_reload"], after["previous_generation"]) == (before["last_reload"], 1)
    assert daemon.status()["daemon"]["started_at"] == picture["daemon"]["started_at"]
    assert after["programs"][0]["pid"] == before["programs"][0]["pid"]
    assert after["programs"][0]["status_text"] == "cooks"
    open_before = descriptors(daemon)
    daemon.done("upgrade")
    assert descriptors(daemon) == open_before, "no descriptor is left over"
    assert all(each["by"].endswith("(cli)") for each in kinds(daemon, "upgraded"))
    daemon.done("rollback", "blog")
    assert daemon.get("blog") == (200, b"one")
    daemon.done("stop")
    assert daemon.wait_end() == 0
    assert "mistake" not in daemon.log


def test_after_an_upgrade_the_daemon_cares_as_before(
    daemon: DaemonUnderTest,
    blog: Project,
    manager: Manager,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    daemon.start()
    manager.hear("READY=1")
    victim, other = sorted(pids(daemon))
    daemon.signal(signal.SIGUSR2)
    wait_for(lambda: kinds(daemon, "upgraded"), "the upgrade")
    manager.hear("READY=1", "WATCHDOG=1")
    assert manager.said.count("FDSTORE=1") == 1, "the service manager keeps the listener from before"
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(pids(daemon)) == 2 and victim not in pids(daemon), "the replacement")
    (event,) = kinds(daemon, "worker-died")
    assert "SIGKILL" in event["text"], "its parent learns how it ended"
    daemon.get("blog", "/loud")
    wait_for(lambda: "printed to stderr" in daemon.log, "what a kept worker prints")
    traced = daemon.ask("trace", site="blog")["processes"]
    assert {each["pid"]: each["error"] for each in traced} == dict.fromkeys([*pids(daemon), template(daemon)])
    blog.deploy("two")
    with Load(daemon.ports["blog"], connections=4) as load:
        daemon.reload_well()
    assert load.outcome.closed == 0, load.outcome.summary()
    wait_for(lambda: not psutil.pid_exists(other), "the kept worker to drain")


def test_a_reload_that_runs_is_carried_on(daemon: DaemonUnderTest, blog: Project, django: Path) -> None:
    daemon.start()
    gate = daemon.folder / "gate"
    blog.deploy("two", wsgi=blog_waits_for(gate))
    daemon.ask("reload", wait=False)
    wait_for(lambda: len(daemon.status("blog")["templates"]) == 2, "the new template")
    loading = {each["pid"] for each in daemon.status("blog")["templates"]}
    with Load(daemon.ports["blog"], connections=4) as load:
        daemon.done("upgrade")
        assert {each["pid"] for each in daemon.status("blog")["templates"]} == loading
        assert daemon.status("blog")["state"] == "reloading"
        gate.touch()
        wait_for(lambda: daemon.get("blog") == (200, b"two"), "the new code")
        report = wait_for(
            lambda: found if (found := daemon.status("blog")["last_reload"])["result"] == "done" else None,
            "the reload to be done",
        )
    assert load.outcome.closed == 0, load.outcome.summary()
    assert report["generation"] == 2


def blog_waits_for(gate: Path) -> str:
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n{WSGI}"


def test_a_program_that_cannot_go_on_is_refused_and_the_old_one_does(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    before = pids(daemon)
    good = daemon.config.read_text()
    daemon.config.write_text(good + "\n[sites.blog.nonsense]\n")
    result = daemon.run("upgrade", "-c", str(daemon.config), "--runtime-dir", str(daemon.runtime))
    assert result.status == 1, result
    assert "nonsense" in result.stderr
    (event,) = kinds(daemon, "upgrade-refused")
    assert "goes on" in event["text"]
    assert pids(daemon) == before
    daemon.config.write_text(good)
    daemon.done("upgrade")
    assert pids(daemon) == before


def test_failures_in_a_row_are_counted_on(daemon: DaemonUnderTest, blog: Project) -> None:
    blog.deploy("one", wsgi="raise RuntimeError('broken')")
    daemon.start()
    wait_for(lambda: daemon.status("blog")["failures_in_row"] >= 4, "some failures")
    before = daemon.status("blog")["failures_in_row"]
    daemon.done("upgrade")
    after = daemon.status("blog")
    assert after["failures_in_row"] >= before
    assert "broken" in after["error"]


def test_a_new_program_that_cannot_read_what_is_left_adopts_who_calls(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    before = pids(daemon)
    with Load(daemon.ports["blog"], connections=4) as load:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait_end()
        nonsense = sealed.seal("test", b'{"format": 1}')
        words = ["start", "-c", str(daemon.config), "--succeed", str(nonsense)]
        with daemon.log_file.open("ab") as log:
            daemon.process = subprocess.Popen(
                [*daemon.command, *words], stdout=log, stderr=log, pass_fds=(nonsense,), cwd=daemon.folder
            )
        os.close(nonsense)
        wait_for(lambda: "is adopted from an earlier daemon" in daemon.log, "the adoption")
        assert pids(daemon) == before
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert "cannot read what is handed over, begins anew" in daemon.log
