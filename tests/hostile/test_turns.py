"""Nobody starves: pipelined requests, long streams and slow readers leave others their turn, with one thread."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from djsup_worker.connection import GONE, IDLE
from djsup_worker.crew import Hand
from djsup_worker.limits import RATE_MIN_BYTES_S
from djsup_worker.loop import NEVER_NS, Loop
from worker.applications import HELLO
from worker.harness import WAIT_S, Client, client

if TYPE_CHECKING:
    from pathlib import Path

    from worker.conftest import MakeSite

GATED = """
import os

order = []

def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [])
    if path == "/order":
        return [",".join(order).encode()]
    order.append(path)
    if path == "/gate":
        open(os.environ["GATE"], "rb").close()
    return [b"x"]
"""


def test_pipelined_requests_wait_until_all_others_had_a_turn(make_site: MakeSite, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    site = make_site(GATED)
    site.environment["GATE"] = str(gate)
    site.start_worker()
    with client(site) as flood, client(site) as user:
        assert user.get("/hello").status == 200
        flood.send(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        user.send(b"GET /visitor HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: bool(row.running))
        gate.open("wb").close()
        assert user.answer().status == 200
        for _ in range(101):
            assert flood.answer().status == 200
        order = user.get("/order").body.decode().split(",")
    assert order.index("/visitor") <= order.index("/gate") + 2, order[:20]
    assert order.count("/flood") == 100


def test_a_request_behind_one_whose_client_was_reset_does_not_run(
    make_site: MakeSite, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    site = make_site(GATED)
    site.environment["GATE"] = str(gate)
    site.start_worker()
    with client(site) as blocker, client(site) as user, client(site) as gone:
        assert gone.get("/hello").status == 200
        assert user.get("/hello").status == 200
        blocker.send(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: bool(row.running))
        gone.send(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
        gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.sock.close()
        gate.open("wb").close()
        assert blocker.answer().status == 200
        site.wait_for(lambda row: row.connections == 2)
        assert b"/gone" not in user.get("/order").body


def test_new_connections_wait_no_longer_than_known_ones(make_site: MakeSite, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    site = make_site(GATED)
    site.environment["GATE"] = str(gate)
    site.start_worker()
    with contextlib.ExitStack() as stack:
        user, *known = (stack.enter_context(client(site)) for _ in range(13))
        for each in (user, *known):
            assert each.get("/hello").status == 200
        user.send(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: bool(row.running))
        for each in known:
            each.send(b"GET /known HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        new = [stack.enter_context(client(site)) for _ in range(10)]
        for each in new:
            each.send(b"GET /new HTTP/1.1\r\nHost: a\r\n\r\n")
        gate.open("wb").close()
        assert user.answer().status == 200
        for each in known:
            for _ in range(10):
                assert each.answer().status == 200
        for each in new:
            assert each.answer().status == 200
        order = user.get("/order").body.decode().split(",")
        order = order[order.index("/gate") :]
    last = max(at for at, path in enumerate(order) if path == "/new")
    assert last < len(known) * 5, "of the ten requests of each known connection, a few came first"


class Silent:
    """A connection whose time is over, and whose end takes a while."""

    phase = IDLE
    since_ns = 0

    def __init__(self) -> None:
        self.ended = 0

    def expire(self) -> None:
        self.ended += 1
        self.phase = GONE
        until = time.monotonic() + 0.0001
        while time.monotonic() < until:
            pass


def test_a_thousand_connections_that_end_together_do_not_hold_the_poller_up() -> None:
    loop: Any = object.__new__(Loop)  # only what deadlines need
    loop.connections = {fd: Silent() for fd in range(1000)}
    loop._phase_limits = {IDLE: 1, GONE: NEVER_NS}
    loop._unswept, loop._timers = [], []
    loop._sweep_at_ns, loop.ended = 0, False
    parts = 0
    while loop._next_ns() <= time.monotonic_ns():
        assert loop._do_what_is_due(Hand(0)), "the poller goes on polling"
        parts += 1
    assert 5 < parts < 20, "a hundred milliseconds in parts of some milliseconds"
    assert {each.ended for each in loop.connections.values()} == {1}


ENDLESS = """
import threading, time

stop = threading.Event()
closed = threading.Event()

class Stream:
    def __iter__(self):
        while not stop.is_set():
            time.sleep(0.001)
            yield b"x"

    def close(self):
        closed.set()

class Big(Stream):
    def __iter__(self):
        while not stop.is_set():
            yield b"x" * 100000

def application(environ, start_response):
    start_response("200 OK", [])
    path = environ["PATH_INFO"]
    if path == "/stop":
        stop.set()
    elif path == "/closed":
        return [repr(closed.is_set()).encode()]
    elif path == "/big":
        return Big()
    elif path == "/stream":
        return Stream()
    return [b"x"]
"""


def test_a_stream_leaves_others_their_turn_between_its_blocks(make_site: MakeSite) -> None:
    site = make_site(ENDLESS)
    site.start_worker()
    with client(site) as user, client(site) as stream:
        assert user.get().status == 200
        stream.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.sock.recv(1) == b"H"
        assert user.get("/stop").status == 200, "with one thread, while a stream without end runs in it"
        stream.buffer += b"H"
        assert stream.answer().body.strip(b"x") == b""


@pytest.mark.parametrize("path", ["/stream", "/big"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_stream_whose_client_has_left_is_closed(make_site: MakeSite, path: str, *, reset: bool) -> None:
    site = make_site(ENDLESS)
    worker = site.start_worker()
    with client(site) as user:
        with client(site) as stream:
            stream.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            assert stream.sock.recv(1) == b"H"
            if reset:
                stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        site.wait_for(lambda row: row.connections == 1)
        assert user.get("/closed").body == b"True"
    assert worker.read() == ""


def test_a_paused_answer_holds_no_thread_and_a_client_that_reads_slowly_keeps_its_answer(
    make_site: MakeSite,
) -> None:
    """What the kernel holds is long enough that it asks for more long after the write timeout."""
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            return (b"x" * 100000 for _ in range(100)) if environ["PATH_INFO"] == "/big" else [b"x"]
        """,
        limits={"write_timeout_s": 1.0},
    )
    site.start_worker()
    with socket.socket() as sock, client(site) as user:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(WAIT_S)
        sock.connect(("127.0.0.1", site.port))
        slow = Client(sock)
        slow.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        begun = time.monotonic()
        while time.monotonic() < begun + 4.5:
            data = sock.recv(20_000)
            assert data, "it was disconnected, though it reads"
            slow.buffer += data
            assert user.get().status == 200
            time.sleep(0.1)
        assert len(slow.answer().body) == 10_000_000


def test_a_body_that_trickles_is_given_up_however_long_it_goes_on(make_site: MakeSite) -> None:
    site = make_site(HELLO, limits={"body_timeout_s": 1.0})
    site.start_worker()
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n")
        user.sock.settimeout(0.2)
        sent = 0
        while True:
            assert sent < RATE_MIN_BYTES_S, "each byte kept it"
            with contextlib.suppress(OSError):
                user.send(b"x")
                sent += 1
            with contextlib.suppress(TimeoutError):
                assert user.answer().status == 408
                break


def test_what_came_in_time_is_served_though_nobody_polled(make_site: MakeSite, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    site = make_site(GATED, limits={"header_timeout_s": 1.5, "body_timeout_s": 1.5})
    site.environment["GATE"] = str(gate)
    site.start_worker()
    with client(site) as blocker, client(site) as fresh, client(site) as head, client(site) as body:
        site.wait_for(lambda row: row.connections == 4)
        head.send(b"GET / HT")
        body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
        blocker.send(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: bool(row.running))
        fresh.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        body.send(b"x" * 500)
        time.sleep(2.7)  # every time is over now
        gate.open("wb").close()
        assert [each.answer().status for each in (blocker, fresh, head, body)] == [200] * 4


@pytest.mark.parametrize("say", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["fresh", "idle"])
def test_who_says_nothing_makes_room_for_who_comes(make_site: MakeSite, say: bytes) -> None:
    import resource  # noqa: PLC0415

    site = make_site(HELLO, limits={"header_timeout_s": 600.0, "keepalive_s": 600.0})
    worker = site.start_worker()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (100, 100))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(client(site)) for _ in range(50)]
        for each in silent:
            each.send(say)
        with client(site) as user:
            assert user.get().body == b"hello"
    assert worker.read() == ""
