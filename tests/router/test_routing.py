"""Requests through a router: each to the site that it names, in order, however the bytes arrive."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.test_smuggling import REFUSED
from djsup.core.routes import Routing
from djsup.router.loop import READ_BYTES
from djsup.router.pages import UNRECOGNIZED_NAME
from djsup_worker.limits import Limits
from router.world import WAIT_S, World, answers, route, wait_until, world
from worker.inprocess import in_process

A, B, SHOP = (
    route("a", "a.example"),
    route("b", "b.example", "*.b.example"),
    route("shop", "a.example", mount="/shop"),
)


@pytest.fixture(scope="module")
def three() -> Iterator[World]:
    with world(A, B, SHOP) as made:
        yield made


@pytest.fixture(scope="module")
def one() -> Iterator[World]:
    with world(route("any"), workers=1) as made:
        yield made


def get(host: str, path: str = "/", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n".encode() + body


REQUESTS = {
    "a": get("a.example"),
    "b": get("B.Example.:80", "/shop"),
    "b, below": get("x.b.example"),
    "shop": get("a.example", "/shop/x"),
    "shop, in the target": get("b.example", "http://a.example/shop"),
    "a, with a body": get("a.example", "/", get("b.example") * 3),
    "b, with a long body": get("b.example", "/", b"x" * 20_000),
    "b, chunked": b"POST / HTTP/1.1\r\nHost: b.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=12),
    st.lists(st.floats(0, 1), max_size=8),
)
def test_each_request_of_a_connection_reaches_the_site_that_it_names_in_order(
    three: World, names: list[str], cuts: list[float]
) -> None:
    data = b"".join(REQUESTS[name] for name in names)
    places = sorted({0, *(int(cut * len(data)) for cut in cuts), len(data)})
    three.seen.clear()
    with three.connect() as client:
        for begin, end in pairwise(places):
            client.sendall(data[begin:end])
        found = answers(client, len(names))
    expected = [name.partition(",")[0] for name in names]
    assert [body.decode() for _, body in found] == expected
    assert sorted(each.site for each in three.seen) == sorted(expected)
    for each in three.seen:
        host = each.environ["HTTP_HOST"].lower()
        assert each.site in ({"a", "shop"} if host.startswith("a.") else {"b"})


def test_byte_by_byte_a_request_arrives(three: World) -> None:
    with three.connect() as client:
        for byte in b"\r\n" + get("b.example", "/", b"12"):
            client.sendall(bytes((byte,)))
        assert answers(client, 1) == [(200, b"b")]


@pytest.mark.parametrize("host", ["c.example", "", "example", "b.example.c"])
def test_unknown_hosts_get_a_plain_404_that_names_nobody(three: World, host: str) -> None:
    three.seen.clear()
    with three.connect() as client:
        client.sendall(get(host))
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert said.endswith(b"\r\n\r\n404 Not Found\n")
    assert not any(word in said.lower() for word in (b"djsup", b"a.example", b"shop", b"server"))
    assert not three.seen


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_known_attacks_get_the_same_answer_through_the_router(one: World, name: str) -> None:
    with in_process(limits=Limits()) as direct:
        expected = direct.read([REFUSED[name]])
    one.seen.clear()
    with one.connect() as client:
        client.sendall(REFUSED[name])
        client.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.recv(1 << 16), b""))
    framing = [
        (each.environ["REQUEST_METHOD"], each.environ["RAW_URI"], each.environ["body"]) for each in one.seen
    ]
    assert framing == expected.framing()
    assert (b"HTTP/1.1 %d " % expected.refusal() in said) == bool(expected.refusal())


CORNERS = {
    "CONNECT": b"CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: c.example\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: c.example\r\n\r\n",
    "a version that is none": b"GET / HTTP/1\r\nHost: c.example\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0 with two Hosts": b"GET / HTTP/2.0\r\nHost: c.example\r\nHost: c.example\r\n\r\n",
    "an unknown method": b"BREW / HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "a Host with a space": b"GET / HTTP/1.1\r\nHost: c example\r\n\r\n",
    "a Host with user information": b"GET / HTTP/1.1\r\nHost: u@c.example\r\n\r\n",
    "a Host with bytes above ASCII": b"GET / HTTP/1.1\r\nHost: b\xc3\xbccher.example\r\n\r\n",
    "such a Host below one that is there": b"GET / HTTP/1.1\r\nHost: \xfc.b.example\r\n\r\n",
    "a Host with such bytes where a name is sent on": b"GET / HTTP/1.1\r\nHost: \xfc.c.example\r\n\r\n",
    "a Host with a port that is none": b"GET / HTTP/1.1\r\nHost: old.example:x\r\n\r\n",
    "a Host with a space before the colon": b"GET / HTTP/1.1\r\nHost : c.example\r\n\r\n",
    "a Host that is folded": b"GET / HTTP/1.1\r\nHost:\r\n c.example\r\n\r\n",
    "a Host with a folded line behind it": b"GET / HTTP/1.1\r\nHost: c.example\r\n X: y\r\n\r\n",
    "an absolute target without a host": b"GET http:///x HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "one with user information alone": b"GET http://u@/x HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "an authority for a target": b"GET c.example:443 HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "a star for a target of GET": b"GET * HTTP/1.1\r\nHost: c.example\r\n\r\n",
    "a coding that is not done": b"POST / HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "an expectation that is not met": b"POST / HTTP/1.1\r\nHost: c.example\r\nExpect: x\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: c.example\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "a host that is sent on, in HTTP/2.0": b"GET / HTTP/2.0\r\nHost: old.example\r\n\r\n",
    "HEAD": b"HEAD / HTTP/2.0\r\nHost: c.example\r\n\r\n",
}


@pytest.fixture(scope="module")
def sending_on() -> Iterator[World]:
    """No default site; a host is sent on, and another is so by its name in ASCII."""
    with world(A, B, workers=1) as made:
        redirects = (("old.example", "https://a.example"), ("xn--bcher-kva.example", "https://b.example"))
        made.do(lambda: made.router.adopt(Routing((A, B), redirects, "/nowhere")))
        yield made


@pytest.mark.parametrize("name", sorted(CORNERS))
def test_what_a_worker_refuses_is_refused_alike_though_it_is_no_sites(
    sending_on: World, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with in_process(limits=Limits()) as direct:
        expected = direct.read([CORNERS[name]])
    assert expected.refusal() >= 400
    sending_on.seen.clear()
    with sending_on.connect() as client:
        client.sendall(CORNERS[name] + get("a.example"))
        said = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert without_date(said) == without_date(expected.sent)
    assert not sending_on.seen
    assert "a mistake" not in capfd.readouterr().err


def without_date(said: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", said)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/a?b=c", "/a?b=c"),
        ("http://old.example/a?b=c", "/a?b=c"),
        ("http://old.example?b=c", "/?b=c"),
        ("http://OLD.example.:80", "/"),
        ("http://old.example?#x", "/?"),
        ("http://u@old.example:80", "/"),
    ],
)
def test_a_host_that_is_sent_on_keeps_path_and_query(sending_on: World, target: str, location: str) -> None:
    with sending_on.connect() as client:
        client.sendall(get("old.example", target))
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 301 ")
    assert f"\r\nLocation: https://a.example{location}\r\n".encode() in said


def test_an_options_for_the_server_is_sent_on_to_the_server(sending_on: World) -> None:
    with sending_on.connect() as client:
        client.sendall(b"OPTIONS * HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n\r\n")
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: https://b.example/\r\n" in said


@contextlib.contextmanager
def through_unix(made: World, path: Path) -> Iterator[socket.socket]:
    """A connection to the router through a Unix socket."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        made.do(lambda: made.router.listen([(made.listener.dup(), False), (listener.dup(), False)]))
        client.settimeout(WAIT_S)
        client.connect(str(path))
        yield client


@pytest.mark.parametrize("sent", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: a.example\r\n"])
def test_who_ends_in_the_middle_of_a_head_is_not_reset(three: World, tmp_path: Path, sent: bytes) -> None:
    with through_unix(three, tmp_path / "socket") as local, three.connect() as far:
        for client in (local, far):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""


@pytest.mark.parametrize(
    "sent", [CORNERS["HTTP/2.0"], get("c.example"), get("a.example", body=b"").replace(b"1.1", b"2.0")]
)
def test_who_is_refused_and_has_said_all_is_not_reset(three: World, tmp_path: Path, sent: bytes) -> None:
    """Neither by the router nor by the worker: what is unread at the end would have it reset."""
    with through_unix(three, tmp_path / "socket") as local, three.connect() as far:
        for client in (local, far):
            client.sendall(sent + b"x" * 50_000)
            client.shutdown(socket.SHUT_WR)
            said = b"".join(iter(partial(client.recv, 4096), b""))
            assert said.startswith(b"HTTP/1.1 ")


def client_hello(name: bytes) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    written = "x" * len(name)
    inside = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=written)
    with pytest.raises(ssl.SSLWantReadError):
        inside.do_handshake()
    return outgoing.read().replace(written.encode(), name)


@pytest.mark.parametrize("name", [b"c.example", b"b\xfccher.example", "bücher.example".encode()])
def test_who_asks_for_a_name_of_nobody_in_tls_gets_to_read_that(
    name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    default = route("any", tls=True, default=name != b"c.example")
    routes = (route("a", "a.example", tls=True), *((default,) if default.default else ()))
    with world(*routes, workers=0) as made, socket.create_server(("127.0.0.1", 0)) as listener:
        made.do(lambda: made.router.listen([(listener.dup(), True)]))
        with socket.create_connection(listener.getsockname()) as client:
            client.settimeout(WAIT_S)
            client.sendall(client_hello(name) + b"x" * 5000)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(100), b"")) == UNRECOGNIZED_NAME
    assert "a mistake" not in capfd.readouterr().err


def test_plain_http_where_tls_is_spoken_is_told_so_though_it_is_no_sites() -> None:
    routes = (route("a", "a.example", tls=True),)
    with world(*routes, workers=0) as made, socket.create_server(("127.0.0.1", 0)) as listener:
        made.do(lambda: made.router.listen([(listener.dup(), True)]))
        with socket.create_connection(listener.getsockname()) as client:
            client.settimeout(WAIT_S)
            client.sendall(get("a.example", body=b"x" * 20_000))
            said = b"".join(iter(partial(client.recv, 4096), b""))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in said


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 9000, b"414"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b"431"),
        (b"GET / HTTP/1.1\nHost: a.example\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", b"400"),
    ],
)
def test_heads_that_cannot_be_right_are_refused_as_soon_as_that_is_known(
    three: World, sent: bytes, status: bytes
) -> None:
    with three.connect() as client:
        client.sendall(sent)
        assert client.recv(4096).startswith(b"HTTP/1.1 " + status)


def test_a_head_that_does_not_come_is_answered_408() -> None:
    with world(route("a", "a.example", header_timeout_s=0.3), workers=1) as made, made.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHo")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_after_its_sites_keepalive() -> None:
    with world(route("a", "a.example", keepalive_s=0.3), workers=1) as made, made.connect() as client:
        client.sendall(get("a.example"))
        assert answers(client, 1) == [(200, b"a")]
        assert client.recv(1) == b""


class Slow:
    """An application that is slow when it is asked to be, until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.busy = threading.Semaphore(0)

    def __call__(self, site: str, environ: dict[str, Any]) -> bytes:
        if environ["PATH_INFO"] == "/slow":
            self.busy.release()
            assert self.go.wait(WAIT_S)
        return site.encode()


def test_a_flood_of_one_site_waits_in_its_own_queue_and_is_turned_away_beyond_it() -> None:
    slow = Slow()
    with world(route("a", "a.example", threads=1, queue=2), route("b", "b.example"), workers=1) as made:
        made.application = slow
        clients = [made.connect() for _ in range(4)]
        try:
            clients[0].sendall(get("a.example", "/slow"))
            assert slow.busy.acquire(timeout=WAIT_S)
            figures = made.router.sites[A.site].figures
            for number, client in enumerate(clients[1:3], 1):
                client.sendall(get("a.example"))
                wait_until(lambda number=number: figures.queued == number)
            clients[3].sendall(get("a.example"))
            said = clients[3].recv(4096)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 5\r\n" in said
            with made.connect() as other:
                other.sendall(get("b.example"))
                assert answers(other, 1) == [(200, b"b")]
            slow.go.set()
            assert [answers(client, 1) for client in clients[:3]] == [[(200, b"a")]] * 3
        finally:
            slow.go.set()
            for client in clients:
                client.close()
        wait_until(lambda: (figures.queued, figures.waited, figures.turned_away) == (0, 2, 1))


def is_idle(made: World) -> bool:
    """Whether the router has heard of workers, and that none of them has a request."""
    lines = list(made.router._lines.values())
    return bool(lines) and all(each.open and not each.lent for each in lines)


def test_whether_an_answer_has_a_body_is_for_its_own_request_to_say() -> None:
    slow = Slow()
    with world(route("a", "a.example", threads=1, queue=0), workers=1) as made:
        made.application = slow
        with made.connect() as busy, made.connect() as client:
            for sent in (get("a.example"), get("a.example").replace(b"GET", b"HEAD")):
                wait_until(lambda: is_idle(made))
                client.sendall(sent)  # from now on the router knows it at sight
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            wait_until(lambda: is_idle(made))
            busy.sendall(get("a.example", "/slow"))
            assert slow.busy.acquire(timeout=WAIT_S)
            client.sendall(get("a.example"))
            said = b"".join(iter(lambda: client.recv(4096), b""))
            slow.go.set()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert not said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("length", [READ_BYTES - 1, READ_BYTES, READ_BYTES + 1])
def test_behind_a_head_as_long_as_a_look_the_next_request_is_found(three: World, length: int) -> None:
    head = get("a.example").replace(b"\r\n\r\n", b"\r\nX: \r\n\r\n")
    head = head.replace(b"X: ", b"X: " + b"x" * (length - len(head)))
    with three.connect() as client:
        client.sendall(head + get("b.example"))
        assert answers(client, 2) == [(200, b"a"), (200, b"b")]


def test_at_the_end_who_waits_gets_to_read_that_it_is_the_end() -> None:
    with world(route("a", "a.example"), workers=0) as made, made.connect() as client:
        client.sendall(get("a.example"))
        wait_until(lambda: made.called == ["a"])
        made._routing.end()
        made.router.turn_all_away()
        made.router.close()
        said = b"".join(iter(lambda: client.recv(4096), b""))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "it was reset"
        made.begin_another()


def test_a_request_for_a_site_without_workers_calls_for_some_and_waits() -> None:
    with world(route("a", "a.example"), workers=0) as made, made.connect() as client:
        client.sendall(get("a.example"))
        wait_until(lambda: made.called == ["a"])
        made.add_worker("a")
        assert answers(client, 1) == [(200, b"a")]


def test_a_request_that_waits_too_long_is_answered_503() -> None:
    with world(route("a", "a.example", queue_timeout_s=0.2), workers=0) as made, made.connect() as client:
        client.sendall(get("a.example"))
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_a_worker_that_talks_nonsense_is_given_up_and_the_others_are_served(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with world(route("a", "a.example"), route("b", "b.example"), workers=1) as made, made.connect() as client:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            made.do(lambda: made.router.add_worker(A.site, theirs))
            ours.settimeout(WAIT_S)
            for said in (b"I" + bytes(8) + b"\0\0\0\0", b"C" * 13, b"I123"):
                ours.send(said)
            assert ours.recv(1) == b"M"
            assert ours.recv(1) == b""
        client.sendall(get("b.example") + get("a.example"))
        assert answers(client, 2) == [(200, b"b"), (200, b"a")]
    assert "a mistake in the router" in capfd.readouterr().err


def test_a_busy_worker_delays_nobody_while_another_is_idle() -> None:
    slow = Slow()
    with world(route("a", "a.example", threads=1), workers=2) as made, made.connect() as busy:
        made.application = slow
        busy.sendall(get("a.example", "/slow"))
        assert slow.busy.acquire(timeout=WAIT_S)
        try:
            for _ in range(5):
                with made.connect() as client:
                    client.sendall(get("a.example") * 2)
                    assert answers(client, 2) == [(200, b"a")] * 2
        finally:
            slow.go.set()
        assert answers(busy, 1) == [(200, b"a")]
