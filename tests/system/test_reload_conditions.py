"""A reload under every condition that a site can be in: nobody fails, and no connection is closed.

TLS connections are the exception, in ``test_tls.py``: they cannot move, and end with ``Connection: close``.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from system.daemon import WSGI, DaemonUnderTest, Project, wait_for
from system.load import Load

DRIPS = """
import time
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
VERSION = %(version)r

def index(request):
    return HttpResponse(VERSION)

def drip(request):
    def pieces():
        for number in range(20):
            yield f"{VERSION} {number}\\n"
            time.sleep(0.1)
    return StreamingHttpResponse(pieces())

urlpatterns = [path("", index), path("healthz", index), path("drip", drip)]
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def reload(daemon: DaemonUnderTest, blog: Project, version: str = "two") -> None:
    blog.deploy(version)
    daemon.done("reload", "blog")


def connect(daemon: DaemonUnderTest) -> socket.socket:
    return socket.create_connection(("127.0.0.1", daemon.ports["blog"]), timeout=30)


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


def test_connections_on_a_unix_socket_stay(daemon: DaemonUnderTest, blog: Project, django: Path) -> None:
    path = daemon.folder / "blog.sock"
    daemon.site("blog", django, listen=f"unix:{path}")
    daemon.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        for version in ("two", "three"):
            client.sendall(GET)
            assert answer(client).startswith(b"HTTP/1.1 200 ")
            reload(daemon, blog, version)
        client.sendall(GET)
        assert answer(client).endswith(b"three")


def test_a_streaming_answer_is_finished_by_the_old_code_and_its_connection_stays(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    blog.deploy(urls=DRIPS % {"version": "one"})
    daemon.start()
    with connect(daemon) as client:
        client.sendall(b"GET /drip HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = client.recv(65536)
        blog.deploy(urls=DRIPS % {"version": "two"})
        daemon.done("reload", "blog")
        assert b"one 19" not in data, "the reload was while it streamed"
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(65536) or pytest.fail(f"closed after {data!r}")
        assert b"one 19\n" in data
        assert b"two" not in data
        client.sendall(GET)
        assert answer(client).endswith(b"two")


def test_a_big_upload_is_received_and_its_connection_stays(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    body = os.urandom(8 * 1024 * 1024)
    with connect(daemon) as client:
        head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[: len(body) // 2])
        blog.deploy("two")
        daemon.done("reload", "blog")
        client.sendall(body[len(body) // 2 :])
        assert answer(client).endswith(hashlib.sha256(body).hexdigest().encode())
        client.sendall(GET)
        assert answer(client).endswith(b"two")


def test_pipelined_requests_are_all_answered(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    with connect(daemon) as client:
        slow = b"GET /slow?s=1.5 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client.sendall(slow + GET * 5)
        wait_for(lambda: any(worker["current"] for worker in daemon.workers("blog")), "the first to run")
        reload(daemon, blog)
        assert [answer(client).startswith(b"HTTP/1.1 200 ") for _ in range(6)] == [True] * 6


def test_a_slow_client_sends_its_request_across_two_reloads(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    with connect(daemon) as client:
        client.sendall(GET[:10])
        reload(daemon, blog)
        client.sendall(GET[10:20])
        reload(daemon, blog, "three")
        client.sendall(GET[20:])
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(GET)
        assert answer(client).endswith(b"three")


def without_a_template(daemon: DaemonUnderTest, _blog: Project) -> None:
    daemon.sites["blog"] += "\npreload = false\n"


def with_programs(daemon: DaemonUnderTest, _blog: Project) -> None:
    daemon.sites["blog"] += '\n[sites.blog.programs.helper]\ncommand = "sleep 3600"\n'


def as_it_is(_daemon: DaemonUnderTest, _blog: Project) -> None:
    pass


def plain(daemon: DaemonUnderTest, blog: Project) -> None:
    reload(daemon, blog)


def while_it_scales(daemon: DaemonUnderTest, blog: Project) -> None:
    blog.deploy("two")
    daemon.done("reload", "blog", "--no-wait")
    daemon.done("scale", "blog=4")
    wait_for(lambda: daemon.status("blog")["generation"] == 2, "the new code")
    daemon.done("scale", "blog=1")
    reload(daemon, blog)


def while_another_runs(daemon: DaemonUnderTest, blog: Project) -> None:
    for number in range(3):
        blog.deploy(f"between {number}", wsgi="import time\ntime.sleep(0.3)\n" + WSGI)
        daemon.done("reload", "blog", "--no-wait")
    reload(daemon, blog)


def after_one_that_crashes(daemon: DaemonUnderTest, blog: Project) -> None:
    blog.deploy("broken", wsgi="import os\nos.abort()\n")
    for _ in range(2):
        assert daemon.run("reload", "blog").status == 1
    reload(daemon, blog)


@pytest.mark.parametrize(
    ("prepare", "act"),
    [
        (without_a_template, plain),
        (with_programs, plain),
        (as_it_is, while_it_scales),
        (as_it_is, while_another_runs),
        (as_it_is, after_one_that_crashes),
    ],
    ids=lambda each: each.__name__,
)
def test_no_request_fails_and_no_connection_is_closed(
    daemon: DaemonUnderTest,
    blog: Project,
    prepare: Callable[[DaemonUnderTest, Project], None],
    act: Callable[[DaemonUnderTest, Project], None],
) -> None:
    prepare(daemon, blog)
    daemon.write()
    daemon.start()
    with Load(daemon.ports["blog"], connections=8) as load:
        act(daemon, blog)
        load.wait_for_requests(50)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert daemon.get("blog") == (200, b"two")


def test_a_reload_ends_a_crash_loop(daemon: DaemonUnderTest, blog: Project) -> None:
    dies = "import os, threading, time\nthreading.Timer(0.3, os._exit, (7,)).start()\n" + WSGI
    daemon.sites["blog"] += "\npreload = false\n"
    daemon.write()
    blog.deploy("dying", wsgi=dies)
    daemon.start()
    wait_for(
        lambda: sum(event["kind"] == "worker-died" for event in daemon.events("blog")) > 2, "the crash loop"
    )
    reload(daemon, blog, "well")
    daemon.wait_state("blog", "serving")
    with Load(daemon.ports["blog"], connections=4) as load:
        load.wait_for_requests(50)
    assert load.outcome.bodies.keys() == {b"well"}
