"""The dashboard's process under a real daemon: killed and broken without harm to any site."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pwd
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from djsup.client import AsyncClient, Refused
from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load


def ask(
    daemon: DaemonUnderTest, method: str, path: str, body: Any = None, *, token: bool = True
) -> tuple[int, Any]:
    """One request to the dashboard's API; status 0 while nobody answers."""
    assert daemon.dashboard_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", daemon.dashboard_port, timeout=60)
    headers = {"X-Djsup": "1", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {(daemon.folder / 'token').read_text().strip()}"
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()


def dashboard_process(daemon: DaemonUnderTest) -> psutil.Process | None:
    for process in daemon.family():
        try:
            if "djsup_web" in process.cmdline():
                return process
        except psutil.Error:
            pass
    return None


@pytest.fixture
def dashboard(daemon: DaemonUnderTest, blog: Project) -> psutil.Process:
    daemon.dashboard()
    daemon.start()
    wait_for(lambda: ask(daemon, "GET", "/healthz", token=False)[0] == 200, "the dashboard to answer")
    found = dashboard_process(daemon)
    assert found
    return found


def test_the_api_tells_and_does_what_the_command_line_does(
    daemon: DaemonUnderTest, blog: Project, dashboard: psutil.Process
) -> None:
    status, picture = ask(daemon, "GET", "/api/status")
    assert (status, picture["sites"][0]["name"]) == (200, "blog")
    assert ask(daemon, "GET", "/api/status", token=False)[0] == 401
    blog.deploy("two")
    status, answer = ask(daemon, "POST", "/api/sites/blog/reload")
    assert status == 200, answer
    assert daemon.get("blog") == (200, b"two")
    last = daemon.status("blog")["last_reload"]
    assert last["result"] == "done"
    assert "dashboard" in last["by"]


def test_a_killed_dashboard_comes_back_and_no_site_notices(
    daemon: DaemonUnderTest, dashboard: psutil.Process
) -> None:
    with Load(daemon.ports["blog"], connections=4) as load:
        dashboard.kill()
        wait_for(
            lambda: (found := dashboard_process(daemon)) is not None and found.pid != dashboard.pid,
            "another dashboard",
        )
        wait_for(lambda: ask(daemon, "GET", "/api/status")[0] == 200, "it to answer")
        load.wait_for_requests(50)
    assert load.outcome.closed == 0


def test_a_dashboard_that_hangs_harms_no_site_and_no_stop(
    daemon: DaemonUnderTest, dashboard: psutil.Process
) -> None:
    dashboard.suspend()
    try:
        assert daemon.get("blog") == (200, b"one")
        assert daemon.done("reload").status == 0
    finally:
        dashboard.resume()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_the_dashboard_has_none_of_roots_rights(daemon: DaemonUnderTest, dashboard: psutil.Process) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    assert set(dashboard.uids()) == {nobody}
    status = Path(f"/proc/{dashboard.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert "Groups:\t \n" in status or "Groups:\t\n" in status


def test_the_dashboard_ends_with_a_killed_daemon(daemon: DaemonUnderTest, dashboard: psutil.Process) -> None:
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()
    _gone, alive = psutil.wait_procs([dashboard], timeout=10)
    assert not alive


def test_the_dashboards_socket_is_for_the_dashboard_alone(
    daemon: DaemonUnderTest, dashboard: psutil.Process
) -> None:
    client = AsyncClient(str(daemon.runtime / "dashboard.sock"))
    with pytest.raises(Refused, match="may not control"):
        asyncio.run(client.call("status"))


def test_a_broken_token_file_is_said_and_the_sites_serve(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.dashboard()
    (daemon.folder / "token").write_text("\n")
    daemon.start()
    assert daemon.get("blog") == (200, b"one")
    assert any("token is empty" in event["text"] for event in daemon.events()), daemon.events()
    (daemon.folder / "token").write_text("a-better-token\n")
    wait_for(lambda: ask(daemon, "GET", "/api/status")[0] == 200, "the dashboard to come up")
