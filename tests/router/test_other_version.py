"""Router, workers and vault of other versions: what is said that nobody knows is passed over, and costs no connection."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator

from djsup.core.routes import Routing
from djsup.router import vault
from djsup.router.vault import Vault
from djsup_worker.link import DATA_AT, HEAD_LENGTH, LENGTH, NUMBER, SIZE
from router.test_routing import A, get
from router.test_vault import held, put
from router.world import WAIT_S, World, answers, strange, world

NOBODY_KNOWS = b"Z"


def note(kind: bytes, number: int, data: bytes = b"") -> bytes:
    return kind + NUMBER.pack(number) + SIZE.pack(len(data)) + data


def description(**more: object) -> bytes:
    text = json.dumps({"local": ("127.0.0.1", "80"), "peer": ("127.0.0.1", "9"), **more}).encode()
    return LENGTH.pack(len(text)) + text


@contextlib.contextmanager
def line_to(made: World) -> Iterator[socket.socket]:
    """A line to a worker, from a router that says what it likes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(WAIT_S)
        made.give_line(theirs)
        assert ours.recv(100) == note(b"S", 0)
        yield ours


def test_a_worker_serves_a_router_that_says_more_or_less_than_it_knows() -> None:
    request = get("a.example")
    length = HEAD_LENGTH.pack(len(request))
    with world(A, workers=1) as made, line_to(made) as router, strange() as odd:
        client, server = socket.socketpair()
        with client, server:
            client.settimeout(WAIT_S)
            for sent in (
                note(NOBODY_KNOWS, 7),
                note(NOBODY_KNOWS, 7, b"more") + note(NOBODY_KNOWS, 8),
                note(b"D", 7) + note(NOBODY_KNOWS, 8, b"more"),
                note(b"R", 8, length),
                note(b"N", 7, LENGTH.pack(2) + b"{}" + length),
                note(b"N", 7, LENGTH.pack(9) + b"{"),
                note(b"N", 7, b""),
            ):
                socket.send_fds(router, [sent], [odd])
            router.send(note(b"N", 7, description() + length))  # its descriptor was lost
            said = b""
            while said.count(note(b"C", 7)) < 4:
                said += router.recv(1000)
            assert said.replace(note(b"C", 7), b"") == note(b"C", 8)
            for _ in range(2):
                client.sendall(request)
            new = note(b"N", 9, description(tomorrow=1) + length)
            socket.send_fds(router, [new], [server.fileno()])
            assert answers(client, 1) == [(200, b"a")]
            assert router.recv(1000) == note(b"I", 9)
            router.send(note(b"R", 9, length) + note(NOBODY_KNOWS, 9))
            assert answers(client, 1) == [(200, b"a")]
            assert router.recv(1000) == note(b"I", 9)


def test_a_router_gives_no_connection_up_of_which_a_worker_says_what_it_does_not_know() -> None:
    with world(A, workers=0) as made, made.connect() as client:
        routers, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.do(lambda: made.router.add_worker(A.site, routers))
        worker.settimeout(WAIT_S)
        with worker:
            worker.send(note(NOBODY_KNOWS, 0) + note(b"S", 0, b"more"))
            client.sendall(get("a.example"))
            assert worker.recv(1000) == note(b"M", 0)
            data, (fd,), _, _ = socket.recv_fds(worker, 1000, 8)
            number = NUMBER.unpack_from(data, 1)[0]
            assert data[:1] == b"N"
            with socket.socket(fileno=fd) as lent:
                lent.settimeout(WAIT_S)
                for _ in range(2):
                    assert lent.recv(1000) == get("a.example")
                    worker.send(note(NOBODY_KNOWS, number) + note(NOBODY_KNOWS, number, b"more"))
                    lent.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
                    worker.send(note(b"I", number, b"more"))
                    assert answers(client, 1) == [(200, b"x")]
                    client.sendall(get("a.example"))
                    assert worker.recv(1000)[: DATA_AT - SIZE.size] == b"R" + NUMBER.pack(number)


def test_a_vault_passes_over_what_it_does_not_know_and_keeps_the_rest() -> None:
    with held() as (router, daemons):
        client, slot = put(router, 1)
        with client, strange() as odd:
            for sent in (b"Z", b"Z and more", bytes((vault.DROP,)), bytes((vault.HAND,)) + b"whatever"):
                socket.send_fds(router.line, [sent], [odd])
            router.close()
            after, (kept,) = Vault.take_over(daemons.dup())
            assert (kept.number, kept.slot) == (1, slot)
            with socket.socket(fileno=kept.fd) as server:
                server.send(b"hello")
            assert client.recv(10) == b"hello"
            after.close()


def test_a_router_takes_over_from_a_vault_that_says_more_than_it_knows() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = os.memfd_create("table")
    os.ftruncate(table, vault.WORD_BYTES * 10)
    client, server = socket.socketpair()

    def hand_over() -> None:
        token = theirs.recv(100)[1:]
        entry = vault.ENTRY.pack(3, 1, False, 0)
        for sent, fds in (
            (b"Z", [odd]),
            (bytes((vault.BEGIN,)) + token, [table, odd]),
            (b"Z and more", [odd, odd]),
            (bytes((vault.PUT,)) + entry, [server.fileno(), odd]),
            (bytes((vault.END,)) + token, [odd]),
        ):
            socket.send_fds(theirs, [sent], fds)

    with ours.dup() as line, theirs, client, server, strange() as odd:
        thread = threading.Thread(target=hand_over)
        thread.start()
        made, (kept,) = Vault.take_over(ours)
        thread.join(WAIT_S)
        assert kept.slot == 3
        os.close(kept.fd)
        made.close()
        line.close()
    os.close(table)


def test_a_routing_of_another_version_is_read_by_what_is_known_of_it() -> None:
    raw = Routing((A,), (("www.example", "https://example"),)).to_json()
    more = {**raw, "tomorrow": 1, "sites": [{**each, "tomorrow": 1} for each in raw["sites"]]}
    assert Routing.from_json(json.loads(json.dumps(more))) == Routing.from_json(json.loads(json.dumps(raw)))
    assert Routing.from_json({"sites": []}) == Routing()
