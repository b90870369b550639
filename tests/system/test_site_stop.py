"""One site is stopped and started by hand, and no client of another one notices."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load
from system.test_adoption import is_over, kill
from system.test_router import ask, connect, shared

CLOCK = '[sites.shop.programs.clock]\ncommand = "sleep 1000"\n'


@pytest.fixture
def shop(daemon: DaemonUnderTest, blog: Project, django: Path) -> Project:
    """A second site, with a program beside its worker."""
    project = Project(daemon.folder / "shop")
    project.deploy("one")
    daemon.site("shop", django, more=CLOCK)
    return project


def is_refused(daemon: DaemonUnderTest, site: str) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", daemon.ports[site])) != 0


def family_of(daemon: DaemonUnderTest, site: str) -> set[int]:
    shown = daemon.status(site)
    return {each["pid"] for kind in ("workers", "templates", "programs") for each in shown[kind]}


def test_a_stop_lets_requests_finish_and_stays_through_everything_until_a_start(
    daemon: DaemonUnderTest, shop: Project
) -> None:
    daemon.start()
    family = family_of(daemon, "shop")
    assert len(family) == 3
    answers: list[tuple[int, bytes]] = []
    slow = threading.Thread(target=lambda: answers.append(daemon.get("shop", "/slow?s=1.5")))
    with Load(daemon.ports["blog"], connections=4) as load:
        slow.start()
        wait_for(lambda: any(each["current"] for each in daemon.workers("shop")), "the slow request")
        begun = time.monotonic()
        told = daemon.done("stop", "shop")
        assert time.monotonic() - begun >= 1.0, "it waits for what runs"
        assert told.stdout.splitlines()[-1] == "shop: stopped"
        slow.join()
        assert answers == [(200, b"one")]
        assert all(is_over(pid) for pid in family)
        assert is_refused(daemon, "shop")
        shown = daemon.status("shop")
        assert (shown["state"], shown["workers"], shown["programs"]) == ("stopped", [], [])
        assert shown["stopped_by"].endswith("(cli)")
        assert "and was so before" in daemon.done("stop", "shop").stdout

        refused = daemon.run("reload", "shop")
        assert (refused.status, "djsup start shop" in refused.stderr) == (1, True), refused
        for words in (("scale", "shop=3"), ("rollback", "shop"), ("run", "shop", "clock")):
            assert "is stopped" in daemon.run(*words).stderr, words
        plan = {each["name"]: each["loads_code"] for each in daemon.ask("plan")["sites"]}
        assert plan == {"blog": True, "shop": False}
        blog, stays = daemon.ask("reload")["sites"]
        assert (blog["result"], stays["result"]) == ("done", "stopped")
        assert daemon.status("shop")["state"] == "stopped"

        daemon.done("upgrade")
        assert daemon.status("shop")["state"] == "stopped"
        kill(daemon)
        daemon.start()
        assert daemon.status("shop")["state"] == "stopped"
        assert is_refused(daemon, "shop")

        shop.deploy("two")
        assert daemon.done("start", "shop").stdout.splitlines()[-1] == "shop: serving"
        assert daemon.get("shop") == (200, b"two")
        wait_for(lambda: daemon.status("shop")["programs"][0]["state"] == "running", "its program")
        load.wait_for_requests(50)
    assert (load.outcome.closed, load.outcome.failures) == (0, []), load.outcome.summary()
    (asked,) = [each for each in daemon.events("shop") if each["kind"] == "stop-asked"]
    assert asked["by"].endswith("(cli)")
    assert "mistake" not in daemon.log


def test_a_daemon_that_is_started_anew_starts_what_was_stopped(
    daemon: DaemonUnderTest, shop: Project
) -> None:
    daemon.start()
    daemon.ask("stop_sites", sites=["shop"])
    daemon.done("stop")
    daemon.wait_end()
    daemon.start()
    assert daemon.get("shop") == (200, b"one")


def test_wrong_names_and_options_change_nothing(daemon: DaemonUnderTest, shop: Project) -> None:
    assert daemon.run("start", "shop").status == 3, "no daemon runs, and none is started"
    daemon.start()
    for words in (("stop", "shop", "none"), ("start", "none")):
        result = daemon.run(*words)
        assert (result.status, "there are: blog, shop" in result.stderr) == (2, True), result
    assert daemon.run("stop", "--no-wait").status == 2
    assert daemon.run("start", "shop", "-d").status == 2
    states = [site["state"] for site in daemon.status()["sites"]]
    assert states == ["serving", "serving"]


def test_no_wait_and_now_and_a_start_during_the_drain(daemon: DaemonUnderTest, shop: Project) -> None:
    daemon.start()
    ends: list[object] = []

    def hang() -> None:
        try:
            ends.append(daemon.get("shop", "/slow?s=20"))
        except OSError as error:
            ends.append(error)

    slow = threading.Thread(target=hang)
    slow.start()
    wait_for(lambda: any(each["current"] for each in daemon.workers("shop")), "the slow request")
    assert daemon.ask("stop_sites", sites=["shop"], wait=False)["sites"][0]["state"] == "stopping"
    assert daemon.ask("start_sites", sites=["shop"], wait=False)["sites"][0]["state"] == "stopping"
    daemon.ask("stop_sites", sites=["shop"], now=True)
    slow.join(10)
    assert isinstance(ends[0], OSError), "nobody waits for it"
    assert daemon.ask("start_sites", sites=["shop"])["sites"][0] == {
        "name": "shop",
        "state": "serving",
        "changed": True,
        "error": None,
    }
    assert daemon.get("shop") == (200, b"one")


def test_on_a_shared_address_a_stopped_site_is_answered_503_at_once(
    daemon: DaemonUnderTest, django: Path
) -> None:
    port = shared(daemon, django, blog='hosts = ["localhost"]', shop='hosts = ["127.0.0.1"]')
    daemon.start()
    with connect(port) as connection:
        assert ask(connection, "127.0.0.1") == (200, "shop/")
        daemon.ask("stop_sites", sites=["shop"])
        begun = time.monotonic()
        assert ask(connection, "127.0.0.1")[0] == 503
        assert time.monotonic() - begun < 2.0
    with connect(port) as connection:
        assert ask(connection, "localhost") == (200, "blog/")
        wait_for(lambda: daemon.status("shop")["queue"]["turned_away"] == 1, "the router's figures")
        daemon.ask("start_sites", sites=["shop"])
        assert ask(connection, "127.0.0.1") == (200, "shop/")
