"""Who is believed: one connection against another, through the worker's own loop."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from socket import inet_aton
from typing import Any

import pytest

from djsup_worker.limits import SECOND_NS, Limits
from djsup_worker.proxy_header import SIGNATURE
from djsup_worker.trust import Trust
from worker.conftest import MakeSite
from worker.harness import Client, client
from worker.inprocess import PEER, InProcess, byte_by_byte, in_process, whole

PROXY = ("10.0.0.1", "5555")
FIELDS = (
    b"Host: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
    b"X-Forwarded-Port: 443\r\nX-Forwarded-Ssl: on\r\nX-Real-IP: 9.9.9.9\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\n" + FIELDS + b"\r\n"
FORWARDED = b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=9.9.9.9;proto=https\r\n\r\n"
PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def worker() -> Iterator[InProcess]:
    with in_process(trust=Trust("site", ["10.0.0.0/8"])) as made:
        yield made


def told(worker: InProcess, data: bytes, peer: tuple[str, str]) -> dict[str, Any]:
    (environ,) = worker.read(whole(data), peer=peer).requests
    return environ


def test_a_trusted_proxy_is_believed(worker: InProcess) -> None:
    environ = told(worker, REQUEST, PROXY)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("9.9.9.9", "")
    assert (environ["wsgi.url_scheme"], environ["HTTPS"], environ["SERVER_PORT"]) == ("https", "on", "443")
    assert (environ["HTTP_HOST"], environ["HTTP_X_FORWARDED_HOST"]) == ("a", "b")
    assert (environ["HTTP_X_FORWARDED_SSL"], environ["HTTP_X_REAL_IP"]) == ("on", "9.9.9.9")
    environ = told(worker, FORWARDED, PROXY)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("9.9.9.9", "https")


def test_nobody_else_is_believed(worker: InProcess) -> None:
    for data in (REQUEST, FORWARDED):
        environ = told(worker, data, PEER)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == PEER
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("http", "80")
        assert not [key for key in environ if "FORWARDED" in key or key in ("HTTPS", "HTTP_X_REAL_IP")]


def test_the_default_believes_nobody() -> None:
    with in_process() as worker:
        for peer in (PROXY, ("127.0.0.1", "1"), ("::1", "1"), ("", "")):
            environ = told(worker, REQUEST, peer)
            assert environ["REMOTE_ADDR"] == peer[0]
            assert "HTTP_X_FORWARDED_PROTO" not in environ


def test_what_is_remembered_of_one_peer_is_not_believed_of_another(worker: InProcess) -> None:
    for _ in range(4):  # known by its section the second time, by its whole head the third
        for data in (REQUEST, FORWARDED, PLAIN):
            assert told(worker, data, PROXY)["REMOTE_ADDR"] == ("9.9.9.9" if data is not PLAIN else PROXY[0])
            assert told(worker, data, PEER)["REMOTE_ADDR"] == PEER[0]
            assert "HTTP_X_FORWARDED_PROTO" not in told(worker, data, PEER)


def test_a_proxy_that_says_nothing_is_the_client(worker: InProcess) -> None:
    environ = told(worker, PLAIN, PROXY)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == PROXY
    assert "HTTPS" not in environ


def test_requests_of_different_clients_on_one_connection_stay_apart(worker: InProcess) -> None:
    both = b"".join(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.%d\r\nX-Forwarded-Proto: %s\r\n\r\n"
        % (n % 3, scheme)
        for n, scheme in enumerate([b"https", b"http", b"https", b"https", b"http", b"https"] * 3)
    )
    seen = worker.read(whole(both + PLAIN), peer=PROXY).requests
    assert [each["REMOTE_ADDR"] for each in seen] == [
        *(f"9.9.9.{n % 3}" for n in range(18)),
        PROXY[0],
    ]
    assert [each["wsgi.url_scheme"] for each in seen] == [
        *(["https", "http", "https", "https", "http", "https"] * 3),
        "http",
    ]


def test_what_a_proxy_says_goes_before_an_absolute_target(worker: InProcess) -> None:
    environ = told(worker, REQUEST.replace(b"GET /", b"GET http://c/"), PROXY)
    assert (environ["HTTP_HOST"], environ["REMOTE_ADDR"]) == ("c", "9.9.9.9")


def test_a_field_with_an_underscore_is_not_believed(worker: InProcess) -> None:
    environ = told(worker, b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 9.9.9.9\r\n\r\n", PROXY)
    assert environ["REMOTE_ADDR"] == PROXY[0]


def test_what_a_proxy_says_with_a_body_is_believed(worker: InProcess) -> None:
    data = b"POST / HTTP/1.1\r\n" + FIELDS + b"Content-Length: 2\r\n\r\nhi"
    environ = told(worker, data, PROXY)
    assert (environ["REMOTE_ADDR"], environ["body"]) == ("9.9.9.9", b"hi")


def test_contradictions_of_a_proxy_are_refused_and_a_strangers_are_nothing(worker: InProcess) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n\r\n"
    assert worker.read(whole(data), peer=PROXY).refusal() == 400
    assert worker.read(whole(data), peer=PEER).refusal() == 0


def test_a_proxy_of_this_machine_that_is_not_named_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with in_process() as worker:
        told(worker, REQUEST, PEER)
        assert capsys.readouterr().err == "", "anybody may send anything"
        for peer in (("127.0.0.1", "1"), ("", ""), ("::1", "1")):
            told(worker, REQUEST, peer)
        said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "trusted_proxies" in said


# --- the PROXY protocol ---

V1 = b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 443\r\n"
V2 = (
    SIGNATURE
    + b"\x21\x11\x00\x12"
    + inet_aton("203.0.113.7")
    + inet_aton("198.51.100.2")
    + struct.pack("!HH", 4711, 443)
    + b"\x04\x00\x03abc"
)
V1_OURS = V1.replace(b"203.0.113.7", b"10.0.0.77")
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNKNOWN = b"PROXY UNKNOWN\r\n"


@pytest.fixture
def proxied() -> Iterator[InProcess]:
    with in_process(trust=Trust("site", ["10.0.0.0/8"], proxy_protocol=True)) as made:
        yield made


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("header", [V1, V2])
def test_a_proxy_header_names_the_client(
    proxied: InProcess, header: bytes, cut: Callable[[bytes], list[bytes]]
) -> None:
    seen = proxied.read(cut(header + REQUEST * 2), peer=PROXY, preface=True).requests
    assert len(seen) == 2
    for environ in seen:
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.7", "4711")
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("198.51.100.2", "443")
        assert "HTTP_X_FORWARDED_FOR" not in environ, "the client itself is not trusted"


def test_a_client_that_is_a_trusted_proxy_is_believed(proxied: InProcess) -> None:
    (environ,) = proxied.read(whole(V1_OURS + REQUEST), peer=PROXY, preface=True).requests
    assert environ["REMOTE_ADDR"] == "9.9.9.9"


def test_a_proxy_that_speaks_for_itself_is_believed(proxied: InProcess) -> None:
    (environ,) = proxied.read(whole(LOCAL + PLAIN), peer=PROXY, preface=True).requests
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == PROXY
    (environ,) = proxied.read(whole(LOCAL + REQUEST), peer=PROXY, preface=True).requests
    assert environ["REMOTE_ADDR"] == "9.9.9.9"


def test_a_client_without_address_is_not_believed(proxied: InProcess) -> None:
    (environ,) = proxied.read(whole(UNKNOWN + REQUEST), peer=PROXY, preface=True).requests
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == PROXY
    assert environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("data", [PLAIN, b"PROXY TCP4 nonsense\r\n" + PLAIN, b"\r\n" + V1 + PLAIN, V1[:20]])
def test_a_connection_without_its_header_is_closed_without_a_word(
    proxied: InProcess, data: bytes, cut: Callable[[bytes], list[bytes]]
) -> None:
    reading = proxied.read(cut(data), peer=PROXY, preface=True)
    assert (reading.requests, reading.sent) == ([], b"")
    assert proxied.loop.connections == {}


def test_a_second_header_is_no_request(proxied: InProcess) -> None:
    assert proxied.read(whole(V1 + V1 + PLAIN), peer=PROXY, preface=True).refusal() == 400


def test_a_header_that_arrives_slowly_is_given_up(proxied: InProcess) -> None:
    ours, current = proxied.connect(PROXY, preface=True)
    with ours:
        begun = current()
        assert begun is not None
        since_ns = begun.since_ns
        for byte in byte_by_byte(V1[:10]):
            ours.send(byte)
            proxied.turn()
        assert begun.since_ns == since_ns, "progress does not help"
        assert proxied.loop._phase_limits[begun.phase] == Limits().header_timeout_s * SECOND_NS
        begun.expire()
        assert current() is None
        ours.setblocking(True)
        assert ours.recv(1) == b""


def test_with_proxy_protocol_a_listener_asks_trusted_peers_and_nobody_else(make_site: MakeSite) -> None:
    application = """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [environ["REMOTE_ADDR"].encode()]
        """
    site = make_site(application, trusted_proxies=["127.0.0.1"], proxy_protocol=True, health_path="/")
    site.start_worker()
    with client(site) as user:
        for piece in (V2[:9], V2[9:20], V2[20:] + b"GET / HT", b"TP/1.1\r\n\r\n"):
            user.send(piece)
        assert user.answer().body == b"203.0.113.7"
        assert user.get().body == b"203.0.113.7"
    with client(site) as user:
        user.send(PLAIN)
        assert user.closed()
    site.wait_for(lambda row: row.connections == 0)
    elsewhere = make_site(application, trusted_proxies=["10.0.0.0/8"], proxy_protocol=True)
    elsewhere.start_worker()
    with client(elsewhere) as user:
        assert user.get().body == b"127.0.0.1"
    with client(elsewhere) as user:
        user.send(V1 + PLAIN)
        assert user.answer().status == 400


def test_a_connection_keeps_its_client_when_it_is_handed_over(make_site: MakeSite) -> None:
    application = """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [(environ["REMOTE_ADDR"] + " " + environ["wsgi.url_scheme"]).encode()]
        """
    old = make_site(application, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    new = make_site.another(old)  # type: ignore[attr-defined]
    worker = old.start_worker()
    new.start_worker()
    with client(old) as user:
        user.send(V1)
        forged: Client = user
        assert forged.get("/", "X-Forwarded-Proto: https").body == b"203.0.113.7 http"
        old.drain(worker, to=new)
        assert worker.exit_status() == 0
        assert user.get("/", "X-Forwarded-Proto: https").body == b"203.0.113.7 http"
    assert new.row().taken_over == 1
