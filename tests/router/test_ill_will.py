"""What a site's worker, or a client, does on purpose to a connection that it has had: the other sites are served all the same."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from djsup.router import hello
from djsup.router.sites import Worker
from djsup_worker.link import HAS, LEAVES, NOBODY, NOTHING, NUMBER, SAID, Routed
from djsup_worker.tally import DONE
from router.test_routing import A, B, get
from router.world import WAIT_S, World, answers, wait_until, world


@pytest.fixture
def two() -> Iterator[World]:
    with world(A, B, workers=1) as made:
        yield made


def had_by(made: World, number: int) -> Routed:
    """The connection that a worker has parked."""
    parked = made._workers[number][1].links[0]._parked
    wait_until(lambda: len(parked) == 1)
    (connection,) = parked.values()
    return connection


def is_served(made: World) -> None:
    with made.connect() as other:
        other.settimeout(3)
        other.sendall(get("b.example"))
        assert answers(other, 1) == [(200, b"b")]


def test_a_worker_that_has_calls_wait_on_a_connection_has_nobody_else_wait(two: World) -> None:
    with two.connect() as client:
        client.settimeout(3)
        client.sendall(get("a.example"))
        assert answers(client, 1) == [(200, b"a")]
        os.set_blocking(had_by(two, 0).fd, True)
        client.sendall(get("b.example"))
        assert answers(client, 1) == [(200, b"b")]
        client.sendall(b"BAD\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        is_served(two)


@contextlib.contextmanager
def another_worker(made: World) -> Iterator[socket.socket]:
    """A line to the router, and whoever has it says what it likes."""
    routers, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.do(lambda: made.router.add_worker(A.site, routers, 99))
    ours.settimeout(WAIT_S)
    with ours:
        yield ours


def claims(number: int) -> bytes:
    return b"".join(HAS + NUMBER.pack(each) + NOTHING for each in range(number))


def test_a_worker_that_claims_without_end_and_does_not_listen_is_given_up(two: World) -> None:
    two.router.clients_max = 5000
    with another_worker(two) as line, pytest.raises(OSError, match=r"Broken pipe|reset by peer"):  # noqa: PT012
        for _ in range(30):
            line.send(claims(14_000))
    is_served(two)


def test_a_worker_that_claims_once_more_is_given_up(two: World) -> None:
    with another_worker(two) as line:
        line.send(SAID + NOBODY + NOTHING)
        line.send(claims(1))
        assert line.recv(1) == b"M"
        assert line.recv(1) == b""
    is_served(two)


def test_a_worker_that_says_often_that_it_leaves_is_let_go_once(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each time all connections are looked at."""
    let_go = two.router._let_go
    gone: list[int] = []

    def counted(worker: Worker) -> None:
        gone.append(worker.name)
        let_go(worker)

    monkeypatch.setattr(two.router, "_let_go", counted)
    with another_worker(two) as line:
        line.send((LEAVES + NOBODY + NOTHING) * 1000)
        assert line.recv(1) == b"M"
        assert line.recv(1) == b""
        is_served(two)
        assert gone == [99]


def test_a_descriptor_that_a_worker_sends_is_closed_without_a_wait(two: World) -> None:
    with (
        another_worker(two) as line,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.send(b"x" * 65536)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
            fd = os.dup(server.fileno())
        socket.send_fds(line, [SAID + NOBODY + NOTHING], [fd])
        os.close(fd)
        is_served(two)
        assert line.recv(1) == b"M"
        assert line.recv(1) == b""
        assert client.recv(1) == b"x"


def test_a_router_that_does_not_listen_for_a_while_hears_it_all_later(two: World) -> None:
    links = two._workers[0][1].links
    wait_until(lambda: links)
    (link,) = links
    link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    go = threading.Event()

    def be_deaf() -> None:
        go.wait(WAIT_S)

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(two.connect()) for _ in range(40)]
        for client in clients:
            client.sendall(get("a.example", body=b"xy")[:-1])
        (worker,) = two.router.sites[A.site].workers
        wait_until(lambda: len(worker.lent) == len(clients))
        two.do(be_deaf)
        for client in clients:
            client.sendall(b"y")
            assert answers(client, 1) == [(200, b"a")]
        wait_until(lambda: link._is_full)
        go.set()
        wait_until(lambda: not worker.lent)
        assert worker.busy == worker.tally[DONE]
        for client in clients:
            client.sendall(get("b.example"))
            assert answers(client, 1) == [(200, b"b")]


def test_a_client_hello_in_tiny_records_is_none() -> None:
    record = b"\x16\x03\x01\x00\x01"
    assert hello.server_name((record + b"\x01") + (record + b"\xff") * (hello.RECORDS_MAX - 2)) is None
    assert hello.server_name((record + b"\x01") + (record + b"\xff") * hello.RECORDS_MAX) == hello.NO_NAME
