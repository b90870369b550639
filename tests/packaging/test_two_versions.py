"""Two versions of djsup speak with each other: daemon, router, vault, keeper and workers, under load, whichever is the older."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from system.conftest import daemon, django  # noqa: F401 - fixtures
from system.crowd import Crowd, asks, is_silent, sends_many, uploads
from system.daemon import wait_for
from system.test_adoption import kill
from system.test_router import kill_router, router_of, shared, vault_of
from tomorrow import STRANGE, tomorrows
from wheels import another, install, make_environment

if TYPE_CHECKING:
    from system.daemon import DaemonUnderTest

CROWD = {
    "asks": (3, asks("/", "blog/")),
    "asks another": (2, asks("/shop/", "shop/shop/")),
    "sends many": (2, sends_many(("/", "blog/"), ("/shop/", "shop/shop/"), ("/slow?s=0.1", "blog"))),
    "uploads": (1, uploads("/shop/upload", "/", "blog/", chunked=True)),
    "is silent": (3, is_silent("/", "blog/")),
}
SITES = {
    "blog": 'hosts = ["localhost"]\nworkers = 2\n[sites.blog.programs.sleeper]\ncommand = "sleep 600"\n',
    "shop": 'hosts = ["localhost"]\nmount = "/shop"\nworkers = 2\npreload = false\n',
}


@pytest.fixture
def home(daemon: DaemonUnderTest, tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A virtualenv with today's djsup, from which the daemon runs."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    home = tmp_path / "venv"
    make_environment(home)
    install(home, wheel)
    daemon.command = (str(home / "bin/djsup"),)
    return home


def leaked(daemon: DaemonUnderTest, vault: psutil.Process) -> list[str]:  # noqa: F811
    """The descriptors that came with what nobody knows, and are still open."""
    found = []
    for each in (psutil.Process(daemon.pid), vault, *daemon.family()):
        with suppress(OSError, psutil.Error):  # it has just ended
            fds = Path(f"/proc/{each.pid}/fd").iterdir()
            found += [f"{each}: {fd}" for fd in fds if str(fd.readlink()) == STRANGE]
    return found


def sleeper(daemon: DaemonUnderTest) -> int:  # noqa: F811
    (found,) = daemon.status("blog")["programs"]
    return int(found["pid"])


def exercise(daemon: DaemonUnderTest, crowd: Crowd) -> None:  # noqa: F811
    """Have all that runs speak with each other."""
    crowd.wait_for(1)
    kill_router(daemon)
    crowd.wait_for(1)
    for number in (3, 2):
        daemon.ask("scale", site="blog", workers=number)
        wait_for(lambda number=number: len(daemon.workers("blog")) == number, f"{number} workers")  # type: ignore[misc]
        crowd.wait_for(1)
    assert {each["error"] for each in daemon.ask("trace", site="blog")["processes"]} == {None}
    kill(daemon)
    crowd.wait_for(1)
    daemon.start()
    crowd.wait_for(1)


def reload(daemon: DaemonUnderTest) -> None:  # noqa: F811
    assert {each["result"] for each in daemon.ask("reload", wait=True)["sites"]} == {"done"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", ["95.0", "95.1"], ids=["today's goes on", "tomorrow's goes on"])
def test_who_says_more_is_understood_by_who_knows_less_and_the_other_way_round(
    daemon: DaemonUnderTest,  # noqa: F811
    django: Path,  # noqa: F811
    home: Path,
    wheel: Path,
    version: str,
) -> None:
    then = another(wheel, version, tomorrows(wheel))
    if version == "95.1":
        install(home, then)
        then = wheel
    port = shared(daemon, django, **SITES)
    daemon.start()
    program, vault = sleeper(daemon), vault_of(daemon)
    workers = pids(daemon)
    with Crowd(port, CROWD) as crowd:
        install(home, then)
        kill_router(daemon)  # the next one is of the other version, and so is nothing else
        crowd.wait_for(1)
        daemon.done("upgrade")
        exercise(daemon, crowd)
        assert sleeper(daemon) == program
        assert workers & pids(daemon), "they were to be of the version before"
        wait_for(lambda: not leaked(daemon, vault), "what nobody knows to be closed")
        reload(daemon)
        crowd.wait_for(1)
    assert "mistake" not in daemon.log


def pids(daemon: DaemonUnderTest) -> set[int]:  # noqa: F811
    return {each["pid"] for site in SITES for each in daemon.workers(site)}


@pytest.mark.timeout(400)
def test_a_version_that_speaks_otherwise_with_workers_loads_sites_anew_and_no_connection_is_closed(
    daemon: DaemonUnderTest,  # noqa: F811
    django: Path,  # noqa: F811
    home: Path,
    wheel: Path,
) -> None:
    port = shared(daemon, django, **SITES)
    daemon.start()
    with zipfile.ZipFile(wheel) as file:
        messages = file.read("djsup_worker/messages.py").decode()
    assert "\nREVISION = " in messages
    changed = {"djsup_worker/messages.py": messages.replace("\nREVISION = ", "\nREVISION = 900 + ")}
    with Crowd(port, CROWD) as crowd:
        before = pids(daemon)
        install(home, another(wheel, "96.0", changed))
        router = router_of(daemon)
        assert router is not None
        router.kill()  # while the old daemon has none that could go on in its place
        wait_for(lambda: died(daemon, "djsup upgrade"), "the next router to say what is to be done")
        daemon.done("upgrade")
        crowd.wait_for(1)
        wait_for(lambda: not before & pids(daemon), "the old workers to go")
        crowd.wait_for(1)
    assert "mistake" not in daemon.log


def died(daemon: DaemonUnderTest, why: str) -> list[dict[str, Any]]:  # noqa: F811
    return [each for each in daemon.events() if each["kind"] == "router-died" and why in each["details"]]
