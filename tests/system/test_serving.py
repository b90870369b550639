"""The main job: sites are served, each in its own Python, and what they print is labelled."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from system.daemon import WSGI, DaemonUnderTest, Project, free_port, wait_for
from system.environments import HTTPTOOLS, OLD_DJANGO, environment, other_interpreter, own_version


def test_one_daemon_serves_two_sites_of_different_pythons_and_djangos(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    version = other_interpreter()
    Project(daemon.folder / "shop").deploy("shop")
    daemon.site("shop", environment(OLD_DJANGO, HTTPTOOLS, version=version), more="workers = 1")
    daemon.start()
    ours, theirs = daemon.json("blog", "/about"), daemon.json("shop", "/about")
    assert (ours["python"], theirs["python"]) == (own_version(), version)
    assert ours["django"].startswith("5.2.")
    assert theirs["django"].startswith("4.2.")
    status = daemon.status()
    assert [(site["name"], site["state"]) for site in status["sites"]] == [
        ("blog", "serving"),
        ("shop", "serving"),
    ]
    assert [site["generation"] for site in status["sites"]] == [1, 1]
    assert status["sites"][0]["django"] == ours["django"]


def test_a_site_sees_nothing_of_the_daemon_but_four_names(
    daemon: DaemonUnderTest, blog: Project, django: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    daemon.site("blog", django, more='env = { GREETING = "hello" }')
    daemon.start()
    about = daemon.json("blog", "/about")
    allowed = {"GREETING", "DJANGO_SETTINGS_MODULE", "PATH", "LANG", "TZ", "HOME", "LC_CTYPE"}
    assert set(about["environ"]) <= allowed
    assert about["environ"]["GREETING"] == "hello"
    assert about["cwd"] == str(blog.directory)
    assert about["path"][0] == str(blog.directory)
    assert not [entry for entry in about["path"] if str(daemon.runtime) in entry]
    assert not [name for name in about["modules"] if name == "djsup" or name.startswith("djsup.")]


def test_a_proxy_is_believed_for_as_long_as_the_configuration_names_it(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    said = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}

    def seen() -> tuple[str, bool]:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.ports["blog"], timeout=30)
        try:
            connection.request("GET", "/about", headers=said)
            about = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return about["remote"], about["secure"]

    daemon.site("blog", django, more='trusted_proxies = ["127.0.0.1"]')
    daemon.start()
    assert seen() == ("203.0.113.9", True)
    daemon.site("blog", django)
    daemon.reload_well("blog")
    assert seen() == ("127.0.0.1", False)
    wait_for(lambda: "name it in trusted_proxies" in daemon.log, "the hint")


def test_a_python_without_the_parser_is_told_the_exact_command(daemon: DaemonUnderTest, django: Path) -> None:
    python = environment(OLD_DJANGO, version=other_interpreter())
    Project(daemon.folder / "shop").deploy("shop")
    daemon.site("shop", python)
    daemon.start()
    site = daemon.status("shop")
    assert site["state"] == "failed"
    assert "-m pip install" in site["error"]
    assert "httptools>=0.6.4,<0.10" in site["error"]
    assert str(python) in site["error"]


def test_what_a_site_prints_is_labelled_with_site_slot_and_pid(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    assert daemon.get("blog", "/loud") == (200, b"loud")
    pids = {worker["slot"]: worker["pid"] for worker in daemon.workers("blog")}

    def lines() -> list[dict[str, object]]:
        printed = daemon.done("logs", "blog", "--json").stdout.splitlines()
        return [line for line in map(json.loads, printed) if "printed to" in line["text"]]

    found = wait_for(lambda: found if len(found := lines()) == 2 else None, "both lines")
    assert {line["stream"]: line["text"] for line in found} == {
        "stdout": "printed to stdout",
        "stderr": "printed to stderr",
    }
    for line in found:
        assert line["site"] == "blog"
        assert pids[line["slot"]] == line["pid"]
    assert "printed to stderr" in daemon.log


def test_a_view_that_raises_is_a_500_and_a_traceback_in_the_log(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    before = {worker["pid"] for worker in daemon.workers("blog")}
    assert daemon.get("blog", "/broken")[0] == 500
    wait_for(lambda: "a view that fails" in daemon.log, "the traceback")
    assert {worker["pid"] for worker in daemon.workers("blog")} == before


def test_requests_are_counted_by_class_and_timed(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    daemon.site("blog", django, more="workers = 2")
    daemon.start()
    for path in ("/", "/", "/", "/missing", "/broken"):
        daemon.get("blog", path)
    site = wait_for(
        lambda: found if (found := daemon.status("blog"))["requests"] == 5 else None, "five requests"
    )
    assert site["status"] == {"2xx": 3, "3xx": 0, "4xx": 1, "5xx": 1}
    latency = wait_for(
        lambda: found if (found := daemon.status("blog")["latency_ms"])["p50"] else None, "figures"
    )
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert site["memory_bytes"] > 1_000_000


def test_status_shows_the_request_that_runs_now(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    with socket.create_connection(("127.0.0.1", daemon.ports["blog"])) as client:
        client.sendall(b"GET /slow?s=3 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def running() -> dict[str, object] | None:
            found = [current for worker in daemon.workers("blog") for current in worker["current"]]
            return found[0] if found else None

        current = wait_for(running, "the request")
        assert (current["method"], current["path"]) == ("GET", "/slow?s=3") or current["path"] == "/slow"
        assert 0 <= float(str(current["age_s"])) < 3


def test_ipv6_and_unix_sockets_are_served(daemon: DaemonUnderTest, blog: Project, django: Path) -> None:
    port, path = free_port(), daemon.folder / "blog.sock"
    daemon.site("blog", django, listen=f'[::1]:{port}", "unix:{path}')
    daemon.start()
    connection = http.client.HTTPConnection("::1", port)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"one"
    connection.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"one")
    daemon.done("stop")
    assert not path.exists()


def test_an_upload_reaches_the_view_whole(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    body = os.urandom(20_000_000)
    assert daemon.get("blog", "/upload", method="POST", body=body) == (
        200,
        hashlib.sha256(body).hexdigest().encode(),
    )


def test_a_taken_address_is_one_clear_error_and_the_other_site_starts(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    Project(daemon.folder / "shop").deploy("shop")
    port = daemon.site("shop", django)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        daemon.start()
        site = daemon.status("shop")
        assert site["state"] == "failed"
        assert (
            f"cannot listen on 127.0.0.1:{port}: the address is in use by pid {os.getpid()}" in site["error"]
        )
        assert daemon.get("blog") == (200, b"one")
    daemon.wait_state("shop", "serving")
    assert daemon.get("shop") == (200, b"shop")


def test_without_a_template_every_worker_boots_by_itself(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    daemon.site("blog", django, more="workers = 2\npreload = false")
    daemon.start()
    site = daemon.status("blog")
    assert (site["state"], len(site["workers"]), site["templates"]) == ("serving", 2, [])
    assert daemon.get("blog") == (200, b"one")


THREAD_AT_IMPORT = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
"""


def test_a_site_that_is_not_safe_to_fork_is_run_without_a_template_and_says_why(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    blog.deploy("threads", wsgi=THREAD_AT_IMPORT + WSGI)
    daemon.start()
    site = daemon.status("blog")
    assert site["state"] == "serving"
    assert any("thread" in note for note in site["notes"]), site["notes"]
    assert daemon.get("blog") == (200, b"threads")


def test_a_connection_that_the_import_opened_is_not_shared_by_workers(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    blog.deploy(
        "database",
        wsgi=WSGI + "\nfrom django.db import connection\nconnection.cursor().execute('SELECT 1')\n",
    )
    daemon.start()
    assert daemon.status("blog")["templates"], "a closed database connection is no reason not to fork"
    assert daemon.get("blog", "/database") == (200, b"1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run sites as other users")
def test_a_site_runs_as_its_user(daemon_for_all: DaemonUnderTest, python_for_all: Path) -> None:
    daemon = daemon_for_all
    folder = daemon.folder / "bare"
    folder.mkdir()
    (folder / "app.py").write_text(
        "import os\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [('%d %s' % (os.getuid(), os.getgroups())).encode()]\n"
    )
    daemon.site("bare", python_for_all, more='wsgi = "app:application"\nuser = "nobody"')
    daemon.start()
    status, body = daemon.get("bare")
    uid, groups = body.decode().split(" ", 1)
    assert status == 200, daemon.status("bare")["error"]
    assert uid == str(pwd.getpwnam("nobody").pw_uid)
    assert groups != "[0]"


def test_the_cli_says_when_no_daemon_runs(daemon: DaemonUnderTest, blog: Project) -> None:
    result = daemon.run("status")
    assert result.status == 3
    assert "no daemon is running" in result.stderr


def test_detached_start_returns_when_every_site_serves(daemon: DaemonUnderTest, blog: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "djsup", "start", "-d", "-c", str(daemon.config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    try:
        assert done.returncode == 0, done
        assert daemon.get("blog") == (200, b"one")
    finally:
        daemon.run("stop", "--now")


def test_detached_start_of_a_broken_site_fails_with_its_reason(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    blog.deploy("broken", wsgi="import no_such_module\n")
    done = subprocess.run(
        [sys.executable, "-m", "djsup", "start", "-d", "-c", str(daemon.config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    try:
        assert done.returncode == 1, done
        assert "no_such_module" in done.stdout + done.stderr
    finally:
        daemon.run("stop", "--now")
