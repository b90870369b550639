"""The daemon is killed while connections are led through two reloads: the next one leads them on.

A worker that is busy reads only later that it is to hand over, first to the generation between, whose workers are gone.
All sites here run under one daemon, which is killed once.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from system.bare import BareSite
from system.daemon import DaemonUnderTest, wait_for

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ONE = "workers = 1\nthreads = 1"
BUSY = {
    "early": ONE,
    "late": ONE,
    "alone": f"{ONE}\npreload = false",
    "alone-late": f"{ONE}\npreload = false",
}
"""``late``: busy until the next daemon is there; ``alone``: no template is left that holds the socket between, too."""


@dataclass
class Stage:
    """One daemon that was killed, and the next; the clients that each busy site had all the time."""

    daemon: DaemonUnderTest
    sites: dict[str, BareSite]
    clients: dict[str, list[socket.socket]]


def connect(site: BareSite) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.port), timeout=15)


def answer(client: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of an answer with a Content-Length; both are empty when the connection was closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := client.recv(4096)):
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(4096) or pytest.fail("closed in a body")
    return head, body


def hold(site: BareSite, gate: Path, cleanup: ExitStack) -> list[socket.socket]:
    """A connection whose request keeps the worker busy until the gate is there, and an idle one of the same worker."""
    busy, idle = (cleanup.enter_context(connect(site)) for _ in range(2))
    idle.sendall(GET)
    assert answer(idle)[1] == b"one"
    busy.sendall(GET.replace(b"/ ", f"/gate?{gate} ".encode(), 1))
    wait_for(lambda: any(each["current"] for each in site.daemon.workers(site.name)), "a request to run")
    return [busy, idle]


def wait_until_between_is_gone(site: BareSite) -> None:
    wait_for(
        lambda: {each["generation"] for each in site.daemon.workers(site.name)} == {1, 3},
        "the generation between to be gone",
    )


def reload_twice(daemon: DaemonUnderTest, sites: list[BareSite]) -> None:
    """All at a time: until a worker of generation 1 has been told to go for a second, the next one waits for it."""
    for version in ("two", "three"):
        for each in sites:
            each.deploy(version)
        outcomes = daemon.ask("reload", sites=[each.name for each in sites], wait=True)["sites"]
        assert {each["result"] for each in outcomes} == {"done"}, outcomes
    for each in sites:
        wait_until_between_is_gone(each)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("heirs")
    daemon = DaemonUnderTest(folder)
    sites = {name: BareSite(daemon, name, more) for name, more in BUSY.items()}
    sites["slow"] = BareSite(daemon, "slow", "workers = 1\n[sites.slow.reload]\nkeep_previous = 0")
    with ExitStack() as cleanup:
        cleanup.callback(lambda: print(f"--- the daemon's log ---\n{daemon.log}"))
        cleanup.callback(daemon.stop)
        daemon.start()
        clients = {name: hold(sites[name], folder / f"{name}.gate", cleanup) for name in BUSY}
        reload_twice(daemon, [sites[name] for name in BUSY])
        clients["slow"] = [cleanup.enter_context(connect(sites["slow"]))]
        clients["slow"][0].sendall(GET[:10])
        wait_for(lambda: daemon.workers("slow")[0]["connections"], "the connection to be taken in")
        sites["slow"].reload()
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait_end()
        for name in ("early", "alone"):
            (folder / f"{name}.gate").touch()
            head, body = answer(clients[name][0])
            assert body == b"one", head
        daemon.start()
        for name in ("late", "alone-late"):
            (folder / f"{name}.gate").touch()
            head, body = answer(clients[name][0])
            assert body == b"one", head
        yield Stage(daemon, sites, clients)


@pytest.mark.parametrize("name", BUSY)
def test_what_a_busy_worker_had_reaches_the_generation_after_next(stage: Stage, name: str) -> None:
    for client in stage.clients[name]:
        client.sendall(GET)
        head, body = answer(client)
        assert body == b"three", head
        assert b"connection: close" not in head.lower()


def test_a_slow_client_of_the_generation_before_is_led_on_by_the_next_daemon(stage: Stage) -> None:
    (client,), site = stage.clients["slow"], stage.sites["slow"]
    site.reload("three")
    wait_until_between_is_gone(site)
    # And with its template its socket.
    wait_for(lambda: len(site.daemon.status("slow")["templates"]) == 1, "the template between to go")
    client.sendall(GET[10:])
    head, body = answer(client)
    assert body == b"one", head
    assert b"connection: close" not in head.lower()
    client.sendall(GET)
    assert answer(client)[1] == b"three"
