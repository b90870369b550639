"""A site follows its load, sleeps when nobody uses it, and wakes for a connection that is not lost."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from system.daemon import DaemonUnderTest, Project, wait_for
from system.load import Load

BROKEN = 'raise RuntimeError("a deploy that went wrong")\n'


@pytest.fixture
def sleeper(daemon: DaemonUnderTest, django: Path) -> Project:
    """A site "blog" that sleeps after a second without a connection, not started."""
    project = Project(daemon.folder / "blog")
    project.deploy("one")
    configure(daemon, django)
    return project


def configure(daemon: DaemonUnderTest, django: Path, **scaling: Any) -> None:
    settings = {"sleep_after": 1, **scaling}
    lines = "\n".join(f"scaling.{key} = {str(value).lower()}" for key, value in settings.items())
    daemon.site("blog", django, more=f'workers = {{ min = 0, max = 2 }}\nhealth.path = "/healthz"\n{lines}')


def kinds(daemon: DaemonUnderTest) -> list[str]:
    return [event["kind"] for event in daemon.events("blog")]


def asleep(daemon: DaemonUnderTest) -> Any:
    """Wait until the site sleeps and none of its workers is left."""

    def found() -> Any:
        site = daemon.status("blog")
        return site if site["state"] == "sleeping" and not site["workers"] else None

    return wait_for(found, "blog to sleep")


def test_slow_requests_bring_more_workers_and_quiet_lets_them_go(
    daemon: DaemonUnderTest, django: Path
) -> None:
    Project(daemon.folder / "blog").deploy("one")
    daemon.site("blog", django, more="workers = { min = 1, max = 3 }\nthreads = 2\nscaling.down_after = 1")
    daemon.start()
    assert len(daemon.workers("blog")) == 1

    def scaled_to(number: int) -> Any:
        site = daemon.status("blog")
        return site if site["workers_asked"] == number and site["state"] == "serving" else None

    with Load(daemon.ports["blog"], "/slow?s=0.3", connections=8, keep_alive=False):
        site = wait_for(lambda: scaled_to(3), "three workers")
        assert (site["workers_min"], site["workers_max"]) == (1, 3)
        assert "threads busy" in site["workers_why"]
    wait_for(lambda: scaled_to(1), "one worker")
    wait_for(lambda: len(daemon.workers("blog")) == 1, "the others to go")
    steps = [event["text"] for event in daemon.events("blog") if event["kind"] == "scaled"]
    assert any("is scaled to 3 workers" in text and "threads busy" in text for text in steps)
    assert "no more were needed" in steps[-1]


def test_a_site_that_sleeps_answers_its_first_request_from_its_template(
    daemon: DaemonUnderTest, sleeper: Project
) -> None:
    daemon.start()
    assert daemon.get("blog") == (200, b"one")
    site = asleep(daemon)
    assert [template["state"] for template in site["templates"]] == ["loaded"]
    begun = time.monotonic()
    assert daemon.get("blog") == (200, b"one")
    print(f"woken from the template in {(time.monotonic() - begun) * 1000:.1f} ms")
    assert daemon.status("blog")["generation"] == site["generation"]
    assert kinds(daemon).count("site-wakes") == 1
    asleep(daemon)
    with Load(daemon.ports["blog"], connections=16) as load:  # all come at once, and none is lost
        load.wait_for_requests(64)
    assert load.outcome.closed == 0, load.outcome.summary()


def test_a_site_that_is_cold_loads_its_code_for_the_first_connection(
    daemon: DaemonUnderTest, django: Path, sleeper: Project
) -> None:
    configure(daemon, django, hibernate_after=0)
    daemon.start()
    cold = wait_for(lambda: site if not (site := asleep(daemon))["templates"] else None, "the template to go")
    assert cold["generation"] == 0
    assert [process.pid for process in daemon.family()] == []
    sleeper.deploy("two")
    done = daemon.done("reload", "blog")
    assert "nothing loaded" in done.stdout
    assert daemon.family() == []
    begun = time.monotonic()
    assert daemon.get("blog") == (200, b"two")
    print(f"woken from cold in {(time.monotonic() - begun) * 1000:.1f} ms")


def test_a_site_that_cannot_wake_backs_off_and_answers_the_same_connection_once_it_is_mended(
    daemon: DaemonUnderTest, django: Path, sleeper: Project
) -> None:
    configure(daemon, django, start_asleep=True)
    sleeper.deploy(wsgi=BROKEN)
    daemon.start()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports["blog"], timeout=60)
    connection.request("GET", "/")
    wait_for(lambda: kinds(daemon).count("load-failed") >= 2, "two tries")
    assert daemon.status("blog")["state"] == "failed"
    assert "a deploy that went wrong" in daemon.status("blog")["error"]
    sleeper.deploy("mended")
    assert connection.getresponse().read() == b"mended"
    connection.close()
    tries = kinds(daemon).count("load-failed")
    assert tries < 12, "a listener that stays readable must not be a reason to try without a pause"


def test_a_reload_of_a_site_that_sleeps_proves_the_new_code(
    daemon: DaemonUnderTest, sleeper: Project
) -> None:
    daemon.start()
    asleep(daemon)
    sleeper.deploy(wsgi=BROKEN)
    assert daemon.run("reload", "blog").status == 1
    asleep(daemon)
    sleeper.deploy("two")
    daemon.reload_well("blog")
    assert daemon.get("blog") == (200, b"two")
    site = asleep(daemon)
    assert site["last_reload"]["result"] == "done"


def test_a_site_that_starts_asleep_wakes_for_a_unix_socket_or_for_a_number_by_hand(
    daemon: DaemonUnderTest, django: Path, sleeper: Project
) -> None:
    path = daemon.folder / "blog.sock"
    more = "workers = { min = 0, max = 2 }\nscaling.start_asleep = true"
    daemon.site("blog", django, listen=f"unix:{path}", more=more)
    daemon.site("wiki", django, directory=daemon.folder / "blog", more=more)
    daemon.start()
    assert [site["state"] for site in daemon.status()["sites"]] == ["sleeping", "sleeping"]
    assert daemon.family() == []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    # One more for all is no reason to wake those that sleep.
    assert daemon.ask("scale", site="wiki", workers="+1")["workers"] == 0
    assert daemon.status("wiki")["state"] == "sleeping"
    assert daemon.ask("scale", site="wiki", workers=5)["workers"] == 2, "max binds what is asked for by hand"
    daemon.wait_state("wiki", "serving")
