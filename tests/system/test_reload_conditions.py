"""A reload under every condition that a site can be in: nobody fails, and no connection is closed.

TLS connections are the exception, in ``test_tls.py``: they cannot move, and end with ``Connection: close``.
All sites here run under one daemon, each with a test of its own.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

import pytest

from system.bare import BareSite
from system.daemon import WAIT_S, DaemonUnderTest, wait_for
from system.load import Load

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SITES = {
    "unix": "workers = 2",
    "stream": "workers = 2",
    "upload": "workers = 2",
    "pipeline": "workers = 2",
    "halves": "workers = 2",
    "blocked": "workers = 1\nthreads = 1",
    "untemplated": "workers = 2\npreload = false",
    "helped": 'workers = 2\n[sites.helped.programs.helper]\ncommand = "sleep 3600"',
    "scaled": "workers = 2",
    "often": "workers = 2",
    "broken": "workers = 2",
    "looping": "workers = 1\npreload = false",
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BareSite]]:
    daemon = DaemonUnderTest(tmp_path_factory.mktemp("conditions"))
    listen = {"unix": f"unix:{daemon.folder / 'unix.sock'}"}
    found = {name: BareSite(daemon, name, more, listen.get(name)) for name, more in SITES.items()}
    daemon.start()
    yield found
    daemon.stop()


@pytest.fixture(autouse=True)
def log(sites: dict[str, BareSite]) -> Iterator[None]:
    yield
    print(f"--- the daemon's log ---\n{sites['unix'].daemon.log}")


def connect(site: BareSite) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.port), timeout=30)


def get(path: str) -> bytes:
    return GET.replace(b"/ ", path.encode() + b" ", 1)


def answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length, whole: its head and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(1) or pytest.fail(f"closed after {data!r}")
    head = data.lower().partition(b"content-length: ")[2]
    length = int(head.split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body)) or pytest.fail("closed in a body")
    return data + body


def wait_busy(site: BareSite) -> None:
    wait_for(lambda: any(worker["current"] for worker in site.daemon.workers(site.name)), "a request to run")


def test_connections_on_a_unix_socket_stay(sites: dict[str, BareSite]) -> None:
    site = sites["unix"]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(site.daemon.folder / "unix.sock"))
        for version in ("two", "three"):
            client.sendall(GET)
            assert answer(client).startswith(b"HTTP/1.1 200 ")
            site.reload(version)
        client.sendall(GET)
        assert answer(client).endswith(b"three")


def test_a_streaming_answer_is_finished_by_the_old_code_and_its_connection_stays(
    sites: dict[str, BareSite], tmp_path: Path
) -> None:
    site = sites["stream"]
    with connect(site) as client:
        client.sendall(get(f"/drip?{tmp_path / 'gate'}"))
        data = client.recv(65536)
        site.reload()
        (tmp_path / "gate").touch()
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(65536) or pytest.fail(f"closed after {data!r}")
        assert b"one ends\n" in data
        client.sendall(GET)
        assert answer(client).endswith(b"two")


def test_a_big_upload_is_received_and_its_connection_stays(sites: dict[str, BareSite]) -> None:
    site = sites["upload"]
    body = os.urandom(8 * 1024 * 1024)
    with connect(site) as client:
        head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[: len(body) // 2])
        site.reload()
        client.sendall(body[len(body) // 2 :])
        assert answer(client).endswith(hashlib.sha256(body).hexdigest().encode())
        client.sendall(GET)
        assert answer(client).endswith(b"two")


def test_pipelined_requests_are_all_answered(sites: dict[str, BareSite], tmp_path: Path) -> None:
    site = sites["pipeline"]
    with connect(site) as client:
        client.sendall(get(f"/gate?{tmp_path / 'gate'}") + GET * 5)
        wait_busy(site)
        site.reload()
        (tmp_path / "gate").touch()
        assert [answer(client).startswith(b"HTTP/1.1 200 ") for _ in range(6)] == [True] * 6


def test_a_slow_client_sends_its_request_across_two_reloads(sites: dict[str, BareSite]) -> None:
    site = sites["halves"]
    with connect(site) as client:
        client.sendall(GET[:10])
        site.reload()
        client.sendall(GET[10:20])
        site.reload("three")
        client.sendall(GET[20:])
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(GET)
        assert answer(client).endswith(b"three")


def test_a_worker_that_hears_nothing_during_two_reloads_hands_over_to_the_newest(
    sites: dict[str, BareSite], tmp_path: Path
) -> None:
    """It sends its connections to the generation between, of which only the template is left: nobody takes them out."""
    site = sites["blocked"]
    with connect(site) as busy, connect(site) as idle:
        idle.sendall(GET)
        assert answer(idle).endswith(b"one")
        busy.sendall(get(f"/gate?{tmp_path / 'gate'}"))
        wait_busy(site)
        site.reload()
        between = {each["pid"] for each in site.daemon.workers(site.name) if each["generation"] == 2}
        site.reload("three")
        wait_for(lambda: not between & site.pids(), "the generation between to be gone")
        (tmp_path / "gate").touch()
        assert answer(busy).endswith(b"one")
        for client in (busy, idle):
            wait_for(partial(answers_three, client), "an answer of the newest code on the same connection")


def answers_three(client: socket.socket) -> bool:
    """Whether the newest code answers; the old one may, until its worker has heard that it is to leave."""
    client.sendall(GET)
    return answer(client).endswith(b"three")


def plainly(site: BareSite) -> None:
    site.reload()


def while_it_scales(site: BareSite) -> None:
    site.deploy("two")
    site.daemon.reload(site.name, wait=False)
    site.daemon.ask("scale", site=site.name, workers=4)
    wait_for(lambda: site.daemon.status(site.name)["generation"] == 2, "the new code")
    site.daemon.ask("scale", site=site.name, workers=1)
    site.reload()


def while_another_runs(site: BareSite) -> None:
    for number in range(3):
        site.deploy(f"between {number}", top="import time\ntime.sleep(0.3)\n")
        site.daemon.reload(site.name, wait=False)
    site.reload()


def after_one_that_crashes(site: BareSite) -> None:
    for _ in range(2):
        site.deploy("broken", top="import os\nos.abort()\n")
        assert site.daemon.reload(site.name)["result"] == "rolled-back"
    site.reload()


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("untemplated", plainly),
        ("helped", plainly),
        ("scaled", while_it_scales),
        ("often", while_another_runs),
        ("broken", after_one_that_crashes),
    ],
)
def test_no_request_fails_and_no_connection_is_closed(
    sites: dict[str, BareSite], name: str, act: Callable[[BareSite], None]
) -> None:
    site = sites[name]
    with Load(site.port, connections=8) as load:
        load.wait_for_requests(50)
        act(site)
        load.wait_for_requests(50)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert site.daemon.get(name) == (200, b"two")


def test_a_reload_ends_a_crash_loop(sites: dict[str, BareSite]) -> None:
    site = sites["looping"]

    def dies_again() -> bool:
        # One at a time: who gave up waiting would be in the listen queue still, and kill those that come after.
        with suppress(OSError, HTTPException):
            site.daemon.get(site.name, "/die", timeout_s=WAIT_S)
        return site.kinds().count("worker-died") > 2

    wait_for(dies_again, "the crash loop")
    site.reload("well")
    site.daemon.wait_state(site.name, "serving")
    with Load(site.port, connections=4) as load:
        load.wait_for_requests(50)
    assert load.outcome.bodies.keys() == {b"well"}
