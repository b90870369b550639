"""The real process, as the daemon starts it."""

from __future__ import annotations

import hashlib
import http.client
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from web_ui.dashboard_process import SOURCES, TOKEN, WAIT_S, Dashboard, dashboard_process
from web_ui.fake_daemon import fake_daemon_thread


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    """The control socket of a fake daemon."""
    with fake_daemon_thread(tmp_path / "control.sock") as fake:
        yield fake.daemon.path


@contextmanager
def asked(dashboard: Dashboard, path: str) -> Iterator[http.client.HTTPResponse]:
    """An answer of which only the head was read."""
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=WAIT_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def test_term_ends_it_within_a_second_though_streams_are_open(control: Path) -> None:
    with (
        dashboard_process(control) as dashboard,
        asked(dashboard, "/api/events") as one,
        asked(dashboard, "/api/events") as two,
    ):
        for stream in (one, two):
            while b"snapshot" not in stream.readline():
                pass
        begun = time.monotonic()
        dashboard.process.send_signal(signal.SIGTERM)
        assert dashboard.process.wait(timeout=WAIT_S) == 0
        assert time.monotonic() - begun < 1.0


def test_socket_outlives_the_process_that_served_it(control: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            with (
                dashboard_process(control, listener=listener) as dashboard,
                asked(dashboard, "/api/status") as answer,
            ):
                assert answer.status == 200


def test_it_dies_with_the_daemon_that_started_it(control: Path, tmp_path: Path) -> None:
    code = (
        "import os, socket, subprocess, sys, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "os.environ.update(DJSUP_DASHBOARD_FD=str(listener.fileno()), DJSUP_DAEMON_PID=str(os.getpid()))\n"
        "child = subprocess.Popen([sys.executable, '-m', 'djsup_web'], pass_fds=(listener.fileno(),))\n"
        "with socket.create_connection(listener.getsockname()) as s:\n"
        "    s.sendall(b'GET /login HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        "    s.recv(1)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", code], env=_environment(control), stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    child = psutil.Process(int(daemon.stdout.readline()))
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    child.wait(timeout=WAIT_S)


def test_it_does_not_start_when_the_daemon_is_gone_already(control: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = {
            "DJSUP_DAEMON_PID": "1" if os.getpid() != 1 else "2",
            "DJSUP_DASHBOARD_FD": str(listener.fileno()),
        }
        done = _run({**_environment(control), **gone}, listener.fileno())
    assert done.returncode == 3
    assert "is gone" in done.stderr


@pytest.mark.parametrize(
    "name", ["DJSUP_CONTROL", "DJSUP_DASHBOARD_LISTEN", "DJSUP_DASHBOARD_FD", "DJSUP_TOKEN_SHA256"]
)
def test_missing_variable_is_named(name: str, control: Path) -> None:
    variables = _environment(control)
    del variables[name]
    done = _run(variables)
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_malformed_hash_is_not_repeated_in_the_message(control: Path) -> None:
    done = _run({**_environment(control), "DJSUP_TOKEN_SHA256": TOKEN})
    assert done.returncode == 2
    assert "DJSUP_TOKEN_SHA256" in done.stderr
    assert TOKEN not in done.stderr


def test_descriptor_that_is_no_socket_is_one_clear_error(control: Path) -> None:
    done = _run(_environment(control))
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_started_by_root_it_becomes_the_user_it_was_told_for_good(control: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    # As a runtime directory of root's in a folder that is closed to others.
    control.parent.parent.chmod(0o700)
    control.parent.chmod(0o755)
    os.chown(control, nobody.pw_uid, nobody.pw_gid)
    with dashboard_process(
        control, DJSUP_DASHBOARD_UID=str(nobody.pw_uid), DJSUP_DASHBOARD_GID=str(nobody.pw_gid)
    ) as dashboard:
        status = Path(f"/proc/{dashboard.process.pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert lines["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert lines["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert lines["Groups"].split() == []
        assert lines["CapEff"].strip("0") == ""
        assert lines["NoNewPrivs"] == "1"
        for path in ("/static/main.js", "/api/status"):
            with asked(dashboard, path) as answer:
                assert answer.status == 200


def _environment(control: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{SOURCES / 'supervisor'}:{SOURCES / 'web_ui'}",
        "DJSUP_CONTROL": str(control),
        "DJSUP_DASHBOARD_LISTEN": "localhost",
        "DJSUP_DASHBOARD_FD": "0",
        "DJSUP_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
    }


def _run(variables: dict[str, str], *fds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "djsup_web"],
        env=variables,
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
