"""One connection against a real worker: framing, limits, time-outs, order."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from worker.applications import ECHO, HELLO
from worker.harness import WAIT_S, Client, Site, client
from worker.inprocess import BATCHES_MAX, in_process

if TYPE_CHECKING:
    from worker.conftest import MakeSite

REQUEST = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    site = make_site(ECHO)
    site.start_worker()
    return site


def limited(make_site: MakeSite, **limits: float) -> Site:
    site = make_site(ECHO, limits=limits)
    site.start_worker()
    return site


def test_requests_follow_one_another_on_a_connection(site: Site) -> None:
    with client(site) as user:
        for number in range(3):
            answer = user.get(f"/{number}?q")
            assert (answer.status, json.loads(answer.body)["path"]) == (200, f"/{number}")
            assert answer.header("Connection") is None
            assert answer.header("Date")
    assert site.row().accepted == 1


def test_ten_thousand_pipelined_requests_are_answered_in_order(site: Site) -> None:
    count = 10_000
    with client(site) as user:
        sent = b"".join(REQUEST % number for number in range(count))
        received = b""
        user.sock.setblocking(False)
        at = 0
        deadline = time.monotonic() + 60
        expected = 0
        while expected < count:
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                at += user.sock.send(sent[at : at + 65536]) if at < len(sent) else 0
            with contextlib.suppress(BlockingIOError):
                received += user.sock.recv(1 << 20)
            while b'"path": "/%d"' % expected in received:
                received = received.partition(b'"path": "/%d"' % expected)[2]
                expected += 1


def test_a_client_that_sends_without_reading_is_not_read_for_ever(site: Site) -> None:
    with client(site) as user:
        user.sock.settimeout(1.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(10_000):
                user.send(REQUEST % 1 * 1000)
        assert site.row().requests < 5_000_000, "the client was held back"
    with client(site) as other:
        assert other.get().status == 200


def test_a_request_may_come_in_pieces(site: Site) -> None:
    with client(site) as user:
        for piece in (
            b"\r\n",
            b"PO",
            b"ST / HTTP/1.1\r",
            b"\nHost: a\r\nContent-Length: 5\r\n\r",
            b"\nhe",
            b"ll",
            b"oGET /n HT",
            b"TP/1.1\r\n\r\n",
        ):
            user.send(piece)
            time.sleep(0.01)
        assert json.loads(user.answer().body)["body"] == "hello"
        assert json.loads(user.answer().body)["path"] == "/n"


def test_http_1_0_closes_unless_asked_not_to(site: Site) -> None:
    with client(site) as user:
        user.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert user.answer().header("Connection") == "keep-alive"
        user.send(b"GET / HTTP/1.0\r\n\r\n")
        assert user.answer().header("Connection") == "close"
        assert user.closed()


def test_connection_close_is_kept(site: Site) -> None:
    with client(site) as user:
        assert user.get("/", "Connection: close").header("Connection") == "close"
        assert user.closed()


def test_a_chunked_body_reaches_the_application_with_its_length(site: Site) -> None:
    with client(site) as user:
        user.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
        )
        seen = json.loads(user.answer().body)
        assert (seen["body"], seen["length"]) == ("abcde", "5")
        assert not {"HTTP_TRANSFER_ENCODING", "HTTP_X_T"} & set(seen["headers"])
        assert user.get().status == 200


def test_a_client_that_waits_for_100_continue_gets_it(site: Site) -> None:
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert user.answer().status == 100
        user.send(b"hello")
        assert json.loads(user.answer().body)["body"] == "hello"
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        assert user.answer().status == 200, "a client that did not wait needs no 100"


def test_a_body_above_the_limit_is_refused_before_it_is_sent(make_site: MakeSite) -> None:
    site = limited(make_site, max_body_bytes=1000)
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert user.answer().status == 413
        assert user.closed()
    with client(site) as user:
        user.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"
            + b"x" * 1000
            + b"\r\n1\r\n"
        )
        assert user.answer().status == 413
        assert user.closed()
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        assert user.answer().status == 200


def test_a_refused_client_that_goes_on_sending_reads_why(make_site: MakeSite) -> None:
    site = limited(make_site, max_body_bytes=1000)
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(30):
                user.send(b"x" * 100_000)
        assert user.answer().status == 413


def test_a_refused_client_that_has_said_all_is_not_reset() -> None:
    """On a Unix socket, where what is unread at the end resets the connection, and both directions are closed by then."""
    with in_process() as worker:
        ours, current = worker.connect()
        with ours:
            ours.send(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n" + b"x" * 50_000)
            ours.shutdown(socket.SHUT_WR)
            for _ in range(BATCHES_MAX):
                if current() is None:
                    break
                worker.turn()
            assert ours.recv(1000).startswith(b"HTTP/1.1 505 ")
            assert ours.recv(1000) == b""


def test_a_header_section_above_the_limit_is_refused(make_site: MakeSite) -> None:
    site = limited(make_site, max_header_bytes=2000)
    with client(site) as user:
        user.send(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 3000)
        assert user.answer().status == 431
        assert user.closed()
    with client(site) as user:
        user.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"b" * 2000 + b"\r\n\r\n")
        assert user.answer().status == 431


def test_a_target_without_end_is_refused(site: Site) -> None:
    with client(site) as user:
        user.send(b"GET /" + b"a" * 9000)
        assert user.answer().status == 414
        assert user.closed()


def test_a_bare_line_feed_is_refused_at_once(site: Site) -> None:
    for data in (b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n\n", b"\nGET / HTTP/1.1\r\n"):
        with client(site) as user:
            user.send(data)
            assert user.answer().status == 400
            assert user.closed()


def test_a_request_before_a_malformed_one_is_served(site: Site) -> None:
    with client(site) as user:
        user.send(REQUEST % 1 + b"rubbish\r\n\r\n" + REQUEST % 2)
        assert user.answer().status == 200
        assert user.answer().status == 400
        assert user.closed()
    site.wait_for(lambda row: row.classes == (0, 1, 0, 1, 0))


def test_a_header_that_arrives_slowly_is_given_up(make_site: MakeSite) -> None:
    site = limited(make_site, header_timeout_s=1.2)
    with client(site) as user:
        begun = time.monotonic()
        user.send(b"GET / HTTP/1.1\r\n")
        user.sock.settimeout(0.2)
        while time.monotonic() < begun + WAIT_S:
            with contextlib.suppress(ConnectionError):
                user.send(b"a")  # progress does not help
            with contextlib.suppress(TimeoutError):
                assert user.answer().status == 408
                break
        assert 1.0 < time.monotonic() - begun < 5
        assert user.closed()


def test_a_body_that_stalls_is_given_up(make_site: MakeSite) -> None:
    site = limited(make_site, body_timeout_s=1.2)
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nab")
        time.sleep(0.7)
        user.send(b"c" * 500)  # progress helps
        time.sleep(0.7)
        user.send(b"d" * 500)
        begun = time.monotonic()
        assert user.answer().status == 408
        assert time.monotonic() - begun > 0.9
        assert user.closed()


def test_idle_connections_are_closed_when_their_time_is_over(make_site: MakeSite) -> None:
    site = limited(make_site, keepalive_s=1.1, header_timeout_s=1.1)
    with client(site) as silent, client(site) as user:
        assert user.get().status == 200
        assert user.closed(5)
        assert silent.closed(5)
    site.wait_for(lambda row: row.connections == 0)


def test_a_big_upload_is_spooled_and_arrives_whole(make_site: MakeSite) -> None:
    site = make_site(
        """
        import hashlib

        def application(environ, start_response):
            file = environ["wsgi.input"]
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(65536), b""):
                digest.update(block)
            start_response("200 OK", [])
            return [digest.hexdigest().encode(), type(file).__name__.encode()]
        """
    )
    site.start_worker()
    import hashlib  # noqa: PLC0415

    block = bytes(range(256)) * 256
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(block) * 160))
        for _ in range(160):
            user.send(block)
        body = user.answer().body.decode()
        assert body.startswith(hashlib.sha256(block * 160).hexdigest())
        assert not body.endswith("BytesIO")
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(40):
            user.send(b"%x\r\n%b\r\n" % (len(block), block))
        user.send(b"0\r\n\r\n")
        assert user.answer().body.decode().startswith(hashlib.sha256(block * 40).hexdigest())
    site.wait_for(lambda row: row.bytes_in == len(block) * 200)


def test_a_slow_upload_blocks_nobody(site: Site) -> None:
    with client(site) as slow, client(site) as user:
        slow.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        assert user.get().status == 200
        slow.send(b"+other")
        assert slow.answer().status == 200


def test_the_remote_end_is_told(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            names = "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "wsgi.url_scheme"
            return [repr([environ[name] for name in names]).encode()]
        """
    )
    site.start_worker()
    with client(site) as user:
        port = user.sock.getsockname()[1]
        assert user.get().body.decode() == repr(
            ["127.0.0.1", str(port), "127.0.0.1", str(site.port), "HTTP/1.1", "http"]
        )


def test_a_unix_socket_is_served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = make_site(ECHO)
    path = str(tmp_path_factory.mktemp("s") / "s")
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as listener,
        contextlib.closing(socket.socket(socket.AF_UNIX)) as sock,
    ):
        listener.bind(path)
        listener.listen()
        site.listeners.append(listener)
        site.start_worker()
        site.listeners.remove(listener)
        sock.settimeout(WAIT_S)
        sock.connect(path)
        assert Client(sock).get("/unix").status == 200


def test_a_client_that_vanishes_harms_nobody(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    worker = site.start_worker()
    for data in (b"", b"GET", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", REQUEST % 1 * 50):
        with site.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(data)
    with client(site) as user:
        assert user.get().status == 200
    assert worker.read() == ""


def test_what_the_listener_is_told_once_holds_for_its_connections() -> None:
    """Linux: an accepted socket has the options of its listener, so that no connection pays a call for them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
