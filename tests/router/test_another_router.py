"""A router is gone without a word, and another goes on: no client notices, and nothing that was sent means something else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djsup.router.clients import Client
from djsup.router.loop import LOOK_AGAIN_S, LOOKS_AT_ONCE
from djsup.router.vault import Vault
from router.test_routing import REQUESTS, SHOP, A, B, Slow, get, through_unix
from router.world import WAIT_S, World, answers, route, wait_until, world


@pytest.fixture(scope="module")
def three() -> Iterator[World]:
    with world(A, B, SHOP) as made:
        made.keep_in_a_vault()
        yield made


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=5),
)
def test_requests_in_pieces_are_answered_in_order_whichever_router_sees_them(
    three: World, names: list[str], cuts: list[tuple[float, bool]]
) -> None:
    data = b"".join(REQUESTS[name] for name in names)
    places = sorted((int(cut * len(data)), replaced) for cut, replaced in cuts)
    three.seen.clear()
    with three.connect() as client:
        for (begin, replaced), (end, _) in pairwise([(0, False), *places, (len(data), False)]):
            if replaced:
                three.replace_router()
            client.sendall(data[begin:end])
        found = answers(client, len(names))
    expected = [name.partition(",")[0] for name in names]
    assert [body.decode() for _, body in found] == expected
    assert sorted(each.site for each in three.seen) == sorted(expected)


def test_a_request_in_a_worker_and_one_in_the_queue_are_answered_and_their_connections_go_on() -> None:
    slow = Slow()
    with world(route("a", "a.example", threads=1), workers=1) as made:
        made.application = slow
        made.keep_in_a_vault()
        with made.connect() as running, made.connect() as waiting, made.connect() as idle:
            idle.sendall(get("a.example"))
            assert answers(idle, 1) == [(200, b"a")]
            running.sendall(get("a.example", "/slow") + get("a.example"))
            assert slow.busy.acquire(timeout=WAIT_S)
            waiting.sendall(get("a.example"))
            wait_until(lambda: made.router.sites[A.site].figures.queued == 1)
            for _ in range(2):
                made.replace_router()
            slow.go.set()
            assert answers(running, 2) == [(200, b"a")] * 2
            assert answers(waiting, 1) == [(200, b"a")]
            made.replace_router()
            for client in (running, waiting, idle):
                client.sendall(get("a.example"))
                assert answers(client, 1) == [(200, b"a")]


def test_what_follows_a_refused_request_is_no_request_for_the_next_router(three: World) -> None:
    three.seen.clear()
    with three.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        three.replace_router()
        client.sendall(get("b.example") * 2)
        with suppress(ConnectionError):
            while client.recv(4096):
                pass
    assert three.seen == []


def test_what_was_sent_on_a_connection_that_is_shut_down_is_no_request(three: World) -> None:
    """Its worker has given its last answer, and did not live to tell that to any router."""
    three.seen.clear()
    for how in (socket.SHUT_WR, socket.SHUT_RDWR):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        client.settimeout(WAIT_S)
        with client, server:
            client.sendall(get("a.example"))
            wait_until(lambda server=server: server.recv(1, socket.MSG_PEEK))
            server.shutdown(how)
            three.lose_router()
            three.put_into_vault(server)
            server.close()
            three.begin_another()
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                assert client.recv(1) == b""
            wait_until(lambda: not three.router._clients)
    assert three.seen == []


def test_what_a_worker_has_for_good_is_not_touched_though_the_vault_has_it_yet(three: World) -> None:
    """A connection that speaks TLS was passed on, and the router did not live to have the vault drop it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        workers, _ = listener.accept()
    client.settimeout(WAIT_S)
    with client, workers:
        three.lose_router()
        three.put_into_vault(workers, tls=True, owner=1)
        three.begin_another()
        three.replace_router()
        assert not three.router._clients
        workers.sendall(b"still there")
        assert client.recv(100) == b"still there"
        workers.close()
        assert client.recv(1) == b"", "the vault has it yet"


@pytest.mark.parametrize("keepalive_s", [0.0, WAIT_S])
def test_what_was_sent_while_no_router_was_there_is_looked_at_before_time_is(keepalive_s: float) -> None:
    with world(route("a", "a.example", keepalive_s=keepalive_s), workers=1) as made:
        made.keep_in_a_vault()
        clients = [made.connect() for _ in range(3)]
        wait_until(lambda: len(made.router._clients) == 3)
        made.lose_router()
        for client in clients:
            client.sendall(get("a.example"))
        line, made._line = made._line, None
        assert line is not None
        made.begin_another()
        # As its process does: when it is told what goes where, in the loop.
        made.do(lambda: made.router.keep_in(*Vault.take_over(line.dup())))
        made._line = line
        for client in clients:
            with client:
                assert answers(client, 1) == [(200, b"a")]


def test_a_worker_ends_a_connection_though_no_router_is_there_to_know_of_it() -> None:
    slow = Slow()
    with world(route("a", "a.example"), workers=1) as made, made.connect() as client:
        made.application = slow
        made.keep_in_a_vault()
        client.sendall(get("a.example", "/slow").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert slow.busy.acquire(timeout=WAIT_S)
        made.lose_router()
        slow.go.set()
        assert answers(client, 1) == [(200, b"a")]
        assert client.recv(1) == b""
        made.begin_another()


def test_a_worker_that_is_gone_takes_its_connections_with_it() -> None:
    slow = Slow()
    with world(route("a", "a.example", threads=1), workers=1) as made, made.connect() as client:
        made.application = slow
        made.keep_in_a_vault()
        client.sendall(get("a.example", "/slow"))
        assert slow.busy.acquire(timeout=WAIT_S)
        made._workers.clear()  # the next router hears of none
        made.replace_router()
        assert client.recv(1) == b""
        slow.go.set()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_of_connections_that_are_gone(three: World) -> None:
    with three.connect() as client:
        client.sendall(get("a.example"))
        answers(client, 1)
    before = descriptors()
    for number in range(1500):
        with three.connect() as client:
            if number % 3:
                client.sendall(get("a.example").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                assert answers(client, 1) == [(200, b"a")]
                assert client.recv(1) == b""
        if number % 500 == 0:
            three.replace_router()
    wait_until(lambda: descriptors() <= before)


def test_a_head_in_tiny_pieces_is_looked_at_now_and_then(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = three.router._look

    def counted(client: Client, seen: bytes = b"") -> None:
        nonlocal looks
        looks += 1
        look(client, seen)

    monkeypatch.setattr(three.router, "_look", counted)
    data = get("a.example").replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 3000 + b"\r\n\r\n")
    with three.connect() as client:
        began = time.monotonic()
        for byte in data:
            client.sendall(bytes((byte,)))
        assert answers(client, 1) == [(200, b"a")]
        took_s = time.monotonic() - began
    assert looks <= LOOKS_AT_ONCE + took_s / LOOK_AGAIN_S + 3


def test_a_head_as_long_as_may_be_stays_in_the_kernel_until_it_is_whole() -> None:
    with (
        world(route("a", "a.example", max_header_bytes=128 * 1024), workers=1) as made,
        made.connect() as client,
    ):
        lines = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 1200) for number in range(108))
        data = get("a.example").replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n")
        for at in range(0, len(data), 5000):
            client.sendall(data[at : at + 5000])
        # The worker's own limit, which is lower here: so it has got the head.
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_through_a_unix_socket_a_head_may_come_in_many_pieces(three: World, tmp_path: Path) -> None:
    with through_unix(three, tmp_path / "socket") as client:
        data = get("b.example", "/x", b"body").replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 500 + b"\r\n\r\n")
        for _ in range(2):
            for byte in data:
                client.sendall(bytes((byte,)))
            client.sendall(get("a.example"))
            assert answers(client, 2) == [(200, b"b"), (200, b"a")]
