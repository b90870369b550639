"""A site of another user, isolated, with TLS, on a socket of systemd's: killed daemon and new program keep it alike."""

from __future__ import annotations

import os
import pwd
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from authority import Authority
from djsup.client import NotRunning
from system.daemon import DaemonUnderTest, free_port, wait_for
from system.load import Load
from system.test_isolation import bare_site, daemon, python  # noqa: F401 - fixtures
from system.test_programs import gone
from system.test_systemd import start_with
from system.test_tls import names_shown

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run sites as other users")
SITE = """
[sites.blog.isolation]
no_new_privs = true
rlimits = {{ nofile = 300 }}
nice = 1
[sites.blog.tls]
listen = ["127.0.0.1:{port}"]
certificate = "{pair.certificate}"
key = "{pair.key}"
[sites.blog.programs.helper]
command = "python3 helper.py"
notify = true
"""
HELPER = """
import os, socket, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1")
while True:
    print("as", os.getuid(), "at", time.monotonic(), flush=True)
    notify.send(b"STATUS=as %d" % os.getuid())
    time.sleep(0.1)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What a .socket unit holds."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as found:
        yield found


def start(daemon: DaemonUnderTest, listener: socket.socket) -> None:  # noqa: F811 - a fixture's name
    """As systemd does, with the socket of its unit."""
    start_with(daemon, listener, "web")

    def serves() -> bool:
        with suppress(NotRunning):  # its socket is not there yet, or nobody listens yet
            return [each["state"] for each in daemon.status()["sites"]] == ["serving"]
        return False

    wait_for(serves, "the site to serve")


def pids(daemon: DaemonUnderTest) -> set[int]:  # noqa: F811 - as above
    return daemon.serving("blog")


def helper(daemon: DaemonUnderTest) -> dict[str, Any]:  # noqa: F811 - as above
    """The program of the site, once it is ready."""

    def look() -> dict[str, Any] | None:
        found: list[dict[str, Any]] = daemon.status("blog")["programs"]
        return next((each for each in found if each["state"] == "running" and each["status_text"]), None)

    return wait_for(look, "the program to be ready")


@pytest.mark.parametrize("end", ["killed", "upgraded"])
def test_all_of_it_is_kept_and_cared_for(
    daemon: DaemonUnderTest,  # noqa: F811 - the fixture
    python: Path,  # noqa: F811 - the fixture
    listener: socket.socket,
    end: str,
) -> None:
    authority = Authority()
    pair = authority.issue(daemon.folder, "localhost")
    port = free_port()
    folder = bare_site(daemon, python, "blog", "nobody", SITE.format(port=port, pair=pair))
    (folder / "helper.py").write_text(HELPER)
    daemon.sites["blog"] = daemon.sites["blog"].replace(f"127.0.0.1:{daemon.ports['blog']}", "fd:web")
    daemon.ports["blog"] = listener.getsockname()[1]
    daemon.write()
    start(daemon, listener)
    before, program = pids(daemon), helper(daemon)["pid"]
    with (
        Load(daemon.ports["blog"], connections=4) as plain,
        Load(port, connections=4, tls=authority.client_context()) as secure,
    ):
        if end == "killed":
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.wait_end()
            (daemon.runtime / "control.sock").unlink()
            start(daemon, listener)
        else:
            daemon.done("upgrade")
        assert pids(daemon) == before
        assert helper(daemon)["pid"] == program
        authority.issue(daemon.folder, "localhost", "renewed.example")
        wait_for(lambda: "renewed.example" in names_shown(authority, port), "the renewed certificate")
        for load in (plain, secure):
            load.wait_for_requests(100)
    assert plain.outcome.closed == 0, plain.outcome.summary()
    assert secure.outcome.closed == 0, secure.outcome.summary()
    (victim,) = before
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(pids(daemon)) == 1 and pids(daemon) != before, "the replacement")
    told = daemon.json("blog", "/")
    assert (told["no_new_privs"], told["uid"] != 0) == ("1", True)
    assert "renewed.example" in names_shown(authority, port)
    as_nobody = pwd.getpwnam("nobody").pw_uid
    wait_for(lambda: f"as {as_nobody} at" in daemon.log.splitlines()[-1], "what the program prints")
    assert helper(daemon)["status_text"] == f"as {as_nobody}", "what it says to the daemon of now"
    daemon.reload_well()
    wait_for(lambda: helper(daemon)["pid"] != program, "the program to follow the reload")
    assert gone(program)
