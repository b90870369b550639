"""djsup as a service: words to the service manager, sockets from it, and what it keeps for us."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from system.daemon import WAIT_S, DaemonUnderTest, Project, free_port, wait_for


@dataclass
class Manager:
    """What systemd is to a service: hears its words, keeps its descriptors."""

    path: Path
    said: list[str] = field(default_factory=list)
    store: dict[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))

    def hear(self, *wanted: str) -> None:
        """Listen until these lines have been said, in this order, from now on."""
        end = time.monotonic() + WAIT_S
        for line in wanted:
            while True:
                self.socket.settimeout(max(0.01, end - time.monotonic()))
                data, fds, _flags, _address = socket.recv_fds(self.socket, 4096, 4)
                lines = data.decode().splitlines()
                self.said += lines
                if "FDSTORE=1" in lines:
                    name = next(each for each in lines if each.startswith("FDNAME="))
                    self.store[name.removeprefix("FDNAME=")] = socket.socket(fileno=fds[0])
                if line in lines:
                    break

    def close(self) -> None:
        for sock in (self.socket, *self.store.values()):
            sock.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(found.path))
    yield found
    found.close()


def test_the_service_manager_hears_of_everything(
    manager: Manager, daemon: DaemonUnderTest, blog: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    daemon.start()
    monkeypatch.delenv("WATCHDOG_USEC")
    manager.hear("READY=1", "STATUS=1 of 1 sites serve", "WATCHDOG=1", "WATCHDOG=1")
    assert "NOTIFY_SOCKET" not in daemon.json("blog", "/about")["environ"]
    (listener,) = manager.store.values()
    assert listener.getsockname() == ("127.0.0.1", daemon.ports["blog"])
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    told = next(each for each in reversed(manager.said) if each.startswith("MONOTONIC_USEC="))
    assert abs(int(told.partition("=")[2]) - time.monotonic_ns() // 1000) < WAIT_S * 1e6
    manager.hear("READY=1")
    assert daemon.status("blog")["generation"] == 2, "ready again means that the reload is over"
    daemon.config.write_text("nonsense")
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1", "READY=1")
    daemon.signal(signal.SIGTERM)
    manager.hear("STOPPING=1", "FDSTOREREMOVE=1")
    assert daemon.wait_end() == 0


def test_a_stored_listener_outlives_daemon_and_workers(
    manager: Manager, daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.top = "orphan_grace = 0"
    daemon.write()
    daemon.start()
    manager.hear("READY=1")
    family = daemon.family()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()
    _gone, alive = psutil.wait_procs(family, timeout=WAIT_S)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    ((name, listener),) = manager.store.items()
    client = http.client.HTTPConnection("127.0.0.1", daemon.ports["blog"], timeout=WAIT_S)
    client.request("GET", "/")  # nobody is there: it queues
    start_with(daemon, listener, name)
    assert client.getresponse().read() == b"one"
    client.close()


def start_with(daemon: DaemonUnderTest, listener: socket.socket, name: str) -> None:
    """Start a daemon as systemd does, with a descriptor that was kept."""
    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': sys.argv[2]}; "
        "os.execv(sys.executable, [sys.executable, '-m', 'djsup', 'start', '-c', sys.argv[3]])"
    )
    with daemon.log_file.open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", program, str(listener.fileno()), name, str(daemon.config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=(listener.fileno(),), cwd=daemon.folder,
        )  # fmt: skip


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate (package systemd)"
)
def test_a_socket_of_systemd_is_served_by_its_name(daemon: DaemonUnderTest, django: Path) -> None:
    project = Project(daemon.folder / "blog")
    project.deploy("one")
    port = free_port()
    daemon.site("blog", django, listen="fd:web")
    daemon.ports["blog"] = port
    with daemon.log_file.open("ab") as log:
        daemon.process = subprocess.Popen(
            ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=web",
             sys.executable, "-m", "djsup", "start", "-c", str(daemon.config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=daemon.folder,
        )  # fmt: skip
    wait_for(lambda: "Listening on" in daemon.log, "the socket")
    assert daemon.get("blog") == (200, b"one")  # the first connection starts it
    project.deploy("two")
    daemon.reload_well()
    daemon.done("restart", "blog")
    daemon.wait_state("blog", "serving")
    assert daemon.get("blog") == (200, b"two")
    daemon.site("other", django, project.directory, listen="fd:mail")
    result = daemon.run("reload")
    assert result.status == 1
    assert "no socket of the name 'mail'" in result.stdout + result.stderr
    assert "there is: web" in result.stdout + result.stderr
