"""Two sites of two users under one daemon: neither gets at what is the other's."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path
from typing import Any

import pytest

from system.daemon import DaemonUnderTest, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run sites as other users")

APP = """
import json, os, signal, socket
from urllib.parse import parse_qs

def attempt(do):
    try:
        return "done: %.200r" % (do(),)
    except OSError as error:
        return type(error).__name__

def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b'{"verb": "status"}\\n')
        return sock.recv(100) or "closed"

def application(environ, start_response):
    print("something of the site's own", flush=True)
    start_response("200 OK", [])
    asked = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
    answer = {
        "pid": os.getpid(), "uid": os.getuid(), "umask": status["Umask"].strip(),
        "no_new_privs": status["NoNewPrivs"].strip(), "environ": dict(os.environ),
        "files": {path: attempt(lambda: open(path, "rb").read(100)) for path in asked.get("read", "").split()},
        "folders": {path: attempt(lambda: os.listdir(path)) for path in asked.get("list", "").split()},
        "sockets": {path: attempt(lambda: connect(path)) for path in asked.get("connect", "").split()},
        "written": {path: attempt(lambda: open(path, "w").close()) for path in asked.get("write", "").split()},
        "killed": {pid: attempt(lambda: os.kill(int(pid), signal.SIGTERM)) for pid in asked.get("kill", "").split()},
    }
    return [json.dumps(answer).encode()]
"""


@pytest.fixture
def daemon(daemon_for_all: DaemonUnderTest) -> DaemonUnderTest:
    return daemon_for_all


@pytest.fixture
def python(python_for_all: Path) -> Path:
    return python_for_all


def bare_site(daemon: DaemonUnderTest, python: Path, name: str, user: str, more: str = "") -> Path:
    folder = daemon.folder / name
    folder.mkdir(mode=0o755)
    (folder / "app.py").write_text(APP)
    daemon.site(name, python, more=f'wsgi = "app:application"\nuser = "{user}"\nworkers = 1\n{more}')
    return folder


def test_a_site_cannot_get_at_another_sites_processes_logs_or_the_daemon(
    daemon: DaemonUnderTest, python: Path
) -> None:
    logs = daemon.folder / "logs"
    logs.mkdir()
    daemon.top = f'[log]\ndirectory = "{logs}"\n'
    bare_site(daemon, python, "blog", "nobody", 'env = { SECRET = "of the blog" }')
    bare_site(daemon, python, "shop", "daemon")
    daemon.start()
    blog = daemon.json("blog", "/")
    assert blog["environ"]["SECRET"] == "of the blog"
    template = daemon.status("blog")["templates"][0]["pid"]
    wait_for(
        lambda: len(list(logs.iterdir())) == 4, "the logs: the daemon's, of both sites, and their access"
    )
    pids = (blog["pid"], template, daemon.pid)
    reads = [f"/proc/{pid}/{what}" for pid in pids for what in ("environ", "maps", "mem")]
    reads += [str(path) for path in logs.iterdir()]
    folders = [f"/proc/{pid}/fd" for pid in pids]
    connects = [str(daemon.runtime / name) for name in ("control.sock", "dashboard.sock")]
    writes = [
        str(daemon.runtime / "worker" / name) for name in ("__main__.py", "jail.py", "sitecustomize.py")
    ]
    query = f"read={'+'.join(reads)}&list={'+'.join(folders)}&connect={'+'.join(connects)}"
    query += f"&write={'+'.join(writes)}&kill={blog['pid']}+{template}"
    shop: dict[str, Any] = daemon.json("shop", f"/?{query}")
    assert shop["uid"] != blog["uid"]
    assert "SECRET" not in shop["environ"]
    for kind in ("files", "folders", "sockets", "written", "killed"):
        assert shop[kind], kind
        assert set(shop[kind].values()) == {"PermissionError"}, (kind, shop[kind])
    assert daemon.json("blog", "/")["pid"] == blog["pid"]


def test_a_site_is_isolated_as_its_settings_say_workers_from_a_template_too(
    daemon: DaemonUnderTest, python: Path
) -> None:
    data = daemon.folder / "data"
    data.mkdir()
    data.chmod(0o777)
    isolation = (
        "[sites.blog.isolation]\numask = '027'\nno_new_privs = true\nrlimits = { nofile = 300, core = 0 }\n"
        f"read_only = ['{data}']\nnice = 19\n"
    )
    bare_site(daemon, python, "blog", "nobody", isolation)
    daemon.start()
    found = daemon.json("blog", f"/?read=/proc/self/limits&write={data}/file")
    assert (found["umask"], found["no_new_privs"]) == ("0027", "1")
    assert list(found["written"].values()) == ["OSError"]
    limits = Path(f"/proc/{found['pid']}/limits").read_text()
    assert any(line.split()[:5] == ["Max", "open", "files", "300", "300"] for line in limits.splitlines())
    assert os.getpriority(os.PRIO_PROCESS, found["pid"]) == 19
    daemon.done("check")


def test_a_program_is_isolated_as_its_site_is_and_still_ends_with_the_daemon(
    daemon: DaemonUnderTest, python: Path
) -> None:
    isolation = (
        '[sites.blog.programs.sleeper]\ncommand = "/bin/sleep 600"\n'
        "[sites.blog.isolation]\numask = '027'\nno_new_privs = true\nnice = 19\n"
    )
    bare_site(daemon, python, "blog", "nobody", isolation)
    daemon.top = "orphan_grace = 0"
    daemon.write()
    daemon.start()
    pid = wait_for(lambda: daemon.status("blog")["programs"][0]["pid"], "the program")
    status = Path(f"/proc/{pid}/status")
    wait_for(lambda: "Name:\tsleep" in status.read_text(), "the program behind its stage")
    said = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    assert (said["Umask"], said["NoNewPrivs"]) == ("0027", "1")
    assert said["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_end()
    wait_for(lambda: not status.exists() or "State:\tZ" in status.read_text(), "the program to end")


def test_a_site_that_cannot_be_isolated_does_not_run_and_says_why(
    daemon: DaemonUnderTest, python: Path
) -> None:
    gone = daemon.folder / "gone"
    gone.mkdir()
    bare_site(daemon, python, "blog", "nobody", f"[sites.blog.isolation]\nread_only = ['{gone}']\n")
    daemon.start()
    gone.rmdir()
    daemon.run("restart", "blog")
    site = daemon.wait_state("blog", "backing-off")
    assert "read_only" in site["error"]
    assert f"No such file or directory ({gone})" in site["error"]
    gone.mkdir()
    daemon.wait_state("blog", "serving")
    gone.rmdir()
    check = daemon.run("check")
    assert check.status == 2
    assert f"{gone} does not exist" in check.stdout + check.stderr
