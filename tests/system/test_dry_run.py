"""``djsup reload --dry-run`` shows what a reload would do, and a reload does that and no more."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

from system.daemon import DaemonUnderTest, Project, free_port, wait_for


def pids(daemon: DaemonUnderTest, site: str) -> set[int]:
    return {worker["pid"] for worker in daemon.workers(site)}


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(65536)


def test_it_shows_each_difference_and_changes_nothing(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    before = pids(daemon, "blog")
    daemon.sites["blog"] += (
        '\nthreads = 7\nenv = { PASSWORD = "swordfish" }\n[sites.blog.limits]\nkeepalive = 5\n'
    )
    daemon.write()
    blog.deploy("two")
    shown = daemon.done("reload", "--dry-run")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["blog", "threads", "4", "7", "new", "generation"] in lines
    assert ["blog", "limits.keepalive", "15", "5", "told"] in lines
    assert "blog: its code is loaded anew" in shown.stdout
    assert "swordfish" not in shown.stdout
    planned = json.loads(daemon.done("reload", "--dry-run", "--json").stdout)
    assert planned["sites"][0]["loads_code"] is True
    assert (pids(daemon, "blog"), daemon.get("blog")) == (before, (200, b"one"))
    assert "settings-changed" not in {event["kind"] for event in daemon.events()}
    daemon.done("reload")
    assert "no setting differs" in daemon.done("reload", "--dry-run").stdout


def test_an_invalid_file_is_told_with_every_mistake(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    daemon.config.write_text(daemon.config.read_text() + '\nwrokers = 3\nthreads = "many"\n')
    result = daemon.run("reload", "--dry-run")
    assert result.status == 2, result
    assert "wrokers" in result.stderr
    assert "threads" in result.stderr
    assert "settings-refused" not in {event["kind"] for event in daemon.events()}


def test_the_dashboard_offers_it(daemon: DaemonUnderTest, blog: Project) -> None:
    port = daemon.dashboard()
    daemon.start()
    daemon.sites["blog"] = daemon.sites["blog"].replace("workers = 2", "workers = 3")
    daemon.write()
    token = (daemon.folder / "token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/plan", headers={"Authorization": f"Bearer {token}"}
    )

    def answer() -> str:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    planned = json.loads(wait_for(answer, "the dashboard"))
    assert planned["sites"][0]["differences"] == [
        {"setting": "workers", "before": "2", "after": "3", "cost": "workers"}
    ]


def test_a_listener_is_added_and_removed_without_touching_others(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    Project(daemon.folder / "shop").deploy("shop")
    daemon.site("shop", django)
    daemon.start()
    port, more = daemon.ports["blog"], free_port()
    of_shop = pids(daemon, "shop")
    plain = daemon.sites["blog"]
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as kept,
        socket.create_connection(("127.0.0.1", daemon.ports["shop"]), timeout=30) as elsewhere,
    ):
        assert ask(kept).endswith(b"one")
        assert ask(elsewhere).endswith(b"shop")
        daemon.sites["blog"] = plain.replace(
            f'["127.0.0.1:{port}"]', f'["127.0.0.1:{port}", "127.0.0.1:{more}"]'
        )
        daemon.write()
        assert "new listener" in daemon.done("reload", "blog", "--dry-run").stdout
        daemon.done("reload", "blog")
        with socket.create_connection(("127.0.0.1", more), timeout=30) as added:
            assert ask(added).endswith(b"one")
        daemon.sites["blog"] = plain
        daemon.write()
        daemon.done("reload", "blog")
        assert ask(kept).endswith(b"one"), "the same connection, two generations later"
        assert ask(elsewhere).endswith(b"shop")
    assert pids(daemon, "shop") == of_shop


def test_limits_are_told_to_the_workers_that_run(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    Project(daemon.folder / "shop").deploy("shop")
    daemon.site("shop", django)
    daemon.start()
    before = pids(daemon, "blog")
    daemon.sites["blog"] += "\n[sites.blog.limits]\nmax_body = 10\n"
    daemon.write()
    daemon.done("reload", "shop")

    def refused() -> bool:
        with socket.create_connection(("127.0.0.1", daemon.ports["blog"]), timeout=30) as client:
            client.sendall(
                b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n12345678901"
            )
            return client.recv(65536).startswith(b"HTTP/1.1 413 ")

    wait_for(refused, "the new limit")
    assert pids(daemon, "blog") == before


def test_a_folder_behind_a_link_is_resolved_anew_by_each_generation(
    daemon: DaemonUnderTest, blog: Project, django: Path
) -> None:
    releases, current = daemon.folder / "releases", daemon.folder / "current"
    for number in (1, 2):
        Project(releases / str(number)).deploy(f"release {number}")
    current.symlink_to(releases / "1")
    daemon.site("blog", django, current)
    daemon.start()
    assert daemon.json("blog", "/about")["version"] == "release 1"
    fresh = daemon.folder / "fresh"
    fresh.symlink_to(releases / "2")
    fresh.rename(current)  # as `ln -sfn` does not, this replaces the link in one step
    daemon.done("reload", "blog")
    about = daemon.json("blog", "/about")
    assert (about["version"], about["cwd"]) == ("release 2", str(releases / "2"))
    daemon.done("rollback", "blog")
    assert daemon.json("blog", "/about")["version"] == "release 1"
