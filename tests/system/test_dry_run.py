"""``djsup reload --dry-run`` shows what a reload would do, and a reload does that and no more."""

from __future__ import annotations

import errno
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.bare import BareSite
from system.daemon import DaemonUnderTest, free_port, wait_for

SITES = ("blog", "shop", "linked")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BareSite]]:
    """Three sites and the dashboard; each test leaves the file as it runs."""
    daemon = DaemonUnderTest(tmp_path_factory.mktemp("dry"))
    daemon.dashboard()
    found = {name: BareSite(daemon, name) for name in SITES}
    for number in (1, 2):
        release = found["linked"].folder / f"release-{number}"
        release.mkdir()
        (release / "app.py").write_text(f"import os\nVERSION = 'release {number}'\n{APPLICATION}")
    link(found["linked"], 1)
    daemon.start()
    yield found
    daemon.stop()


@pytest.fixture
def sites(shared: dict[str, BareSite]) -> Iterator[dict[str, BareSite]]:
    yield shared
    print(f"--- the daemon's log ---\n{shared['blog'].daemon.log}")


APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{VERSION} in {os.getcwd()}".encode()]
"""


def link(site: BareSite, number: int) -> None:
    """As a deploy does that replaces a link in one step, which ``ln -sfn`` does not."""
    fresh, current = site.folder / "fresh", site.folder / "current"
    fresh.symlink_to(site.folder / f"release-{number}")
    fresh.rename(current)
    site.daemon.sites[site.name] = site.daemon.sites[site.name].replace(
        f'directory = "{site.folder}"', f'directory = "{current}"'
    )
    site.daemon.write()


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(65536)


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_it_shows_each_difference_and_changes_nothing(sites: dict[str, BareSite]) -> None:
    blog = sites["blog"]
    daemon, before, plain = blog.daemon, blog.pids(), blog.more
    changes = [event["kind"] for event in daemon.events()].count("settings-changed")
    blog.deploy("two")
    blog.configure(
        f'{plain}\nthreads = 7\nenv = {{ PASSWORD = "swordfish" }}\n[sites.blog.limits]\nkeepalive = 5'
    )
    shown = daemon.done("reload", "--dry-run")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["blog", "threads", "4", "7", "new", "generation"] in lines
    assert ["blog", "limits.keepalive", "15", "5", "told"] in lines
    assert "blog: its code is loaded anew" in shown.stdout
    assert "swordfish" not in shown.stdout
    planned = json.loads(daemon.done("reload", "--dry-run", "--json").stdout)
    assert planned["sites"][0]["loads_code"] is True
    assert (blog.pids(), daemon.get("blog")) == (before, (200, b"one"))
    assert [event["kind"] for event in daemon.events()].count("settings-changed") == changes
    blog.reload()
    assert daemon.ask("plan", sites=[])["sites"][0]["differences"] == []
    blog.configure(plain)
    blog.reload("one")


def test_an_invalid_file_is_told_with_every_mistake(sites: dict[str, BareSite]) -> None:
    daemon = sites["blog"].daemon
    daemon.config.write_text(daemon.config.read_text() + '\nwrokers = 3\nthreads = "many"\n')
    result = daemon.run("reload", "--dry-run")
    daemon.write()
    assert result.status == 2, result
    assert "wrokers" in result.stderr
    assert "threads" in result.stderr
    assert "settings-refused" not in {event["kind"] for event in daemon.events()}


def test_the_dashboard_offers_it(sites: dict[str, BareSite]) -> None:
    blog = sites["blog"]
    plain = blog.more
    blog.configure("workers = 3")
    token = (blog.daemon.folder / "token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{blog.daemon.dashboard_port}/api/plan",
        headers={"Authorization": f"Bearer {token}"},
    )

    def answer() -> str:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    planned = json.loads(wait_for(answer, "the dashboard"))
    blog.configure(plain)
    assert planned["sites"][0]["differences"] == [
        {"setting": "workers", "before": "2", "after": "3", "cost": "workers"}
    ]


def test_a_listener_is_added_and_removed_without_touching_others(sites: dict[str, BareSite]) -> None:
    blog, shop = sites["blog"], sites["shop"]
    daemon, port, more = blog.daemon, blog.port, free_port()
    of_shop, plain = shop.pids(), daemon.sites["blog"]
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as kept,
        socket.create_connection(("127.0.0.1", shop.port), timeout=30) as elsewhere,
    ):
        assert ask(kept).endswith(b"one")
        assert ask(elsewhere).endswith(b"one")
        daemon.sites["blog"] = plain.replace(
            f'["127.0.0.1:{port}"]', f'["127.0.0.1:{port}", "127.0.0.1:{more}"]'
        )
        daemon.write()
        assert "new listener" in daemon.done("reload", "blog", "--dry-run").stdout
        assert daemon.reload("blog")["result"] == "done"
        with socket.create_connection(("127.0.0.1", more), timeout=30) as added:
            assert ask(added).endswith(b"one")
        daemon.sites["blog"] = plain
        daemon.write()
        assert daemon.reload("blog")["result"] == "done"
        wait_for(lambda: refuses(more), "the listener to be closed")
        assert ask(kept).endswith(b"one"), "the same connection, two generations later"
        assert ask(elsewhere).endswith(b"one")
    assert shop.pids() == of_shop


def test_limits_are_told_to_the_workers_that_run(sites: dict[str, BareSite]) -> None:
    blog = sites["blog"]
    before, plain = blog.pids(), blog.more
    blog.configure(f"{plain}\n[sites.blog.limits]\nmax_body = 10")
    assert blog.daemon.reload("shop")["result"] == "done"

    def refused() -> bool:
        with socket.create_connection(("127.0.0.1", blog.port), timeout=30) as client:
            client.sendall(
                b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n12345678901"
            )
            return client.recv(65536).startswith(b"HTTP/1.1 413 ")

    wait_for(refused, "the new limit")
    assert blog.pids() == before
    blog.configure(plain)


def test_a_folder_behind_a_link_is_resolved_anew_by_each_generation(sites: dict[str, BareSite]) -> None:
    linked = sites["linked"]

    def found() -> tuple[str, Path]:
        version, _, folder = linked.daemon.get("linked")[1].decode().partition(" in ")
        return version, Path(folder)

    first, second = (("release 1", linked.folder / "release-1"), ("release 2", linked.folder / "release-2"))
    assert found() == first
    link(linked, 2)
    assert linked.daemon.reload("linked")["result"] == "done"
    assert found() == second
    linked.daemon.done("rollback", "linked")
    assert found() == first
