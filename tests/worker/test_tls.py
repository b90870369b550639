"""TLS in a real worker: the handshake, what is refused, bodies both ways, other certificates while it serves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from authority import Authority, PairFiles
from djsup_worker import messages
from djsup_worker.messages import NewCertificates
from djsup_worker.tls import Names
from worker.applications import HELLO
from worker.harness import WAIT_S, Client, Process, Site, client
from worker.interpreters import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.conftest import MakeSite

ABOUT = """
import hashlib, json

def application(environ, start_response):
    if environ["PATH_INFO"] == "/big":
        start_response("200 OK", [("Content-Length", str(1 << 20))])
        return [b"x" * 100_000] * 10 + [b"x" * ((1 << 20) - 1_000_000)]
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open("big", "rb"))
    if environ["PATH_INFO"] == "/own":
        start_response("200 OK", [("strict-transport-security", "max-age=1")])
        return [b""]
    digest = hashlib.sha256(environ["wsgi.input"].read()).hexdigest()
    seen = {"digest": digest, **{key: environ.get(key) for key in (
        "wsgi.url_scheme", "HTTPS", "SERVER_PORT", "REMOTE_ADDR", "PATH_INFO")}}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> PairFiles:
    return authority.issue(tmp_path, "localhost", "127.0.0.1")


def give(
    worker: Process, *pairs: PairFiles, names: tuple[str, ...] = ("",), redirect: str = "", hsts: str = ""
) -> None:
    """Hand certificates to a worker as the daemon does."""
    fds = []
    for pair in pairs:
        fds.append(os.memfd_create("pair"))
        os.write(fds[-1], pair.pem)
    worker.channel.send(NewCertificates(list(names), redirect, hsts), fds)
    for fd in fds:
        os.close(fd)


def with_tls(site: Site) -> Site:
    """Have the site listen twice: in the clear on ``listeners[0]``, with TLS on ``port``."""
    second = socket.create_server(("127.0.0.1", 0), backlog=1024)
    second.setblocking(False)
    site.listeners.append(second)
    site.port = second.getsockname()[1]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in site.listeners]
    site.boot.update(listeners=addresses, tls_listeners=addresses[1:])
    return site


def start(site: Site, *pairs: PairFiles, **given: object) -> Process:
    worker = site.run("worker")
    give(worker, *pairs, **given)  # type: ignore[arg-type]
    worker.channel.receive(messages.Loaded)
    worker.channel.receive(messages.Ready)
    return worker


@contextlib.contextmanager
def secured(
    site: Site, authority: Authority, name: str = "localhost", context: ssl.SSLContext | None = None
) -> Iterator[Client]:
    context = context or authority.client_context()
    with (
        site.connect() as plain,
        context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False) as sock,
    ):
        yield Client(sock)


def shown(user: Client) -> tuple[str, ...]:
    """The names in the certificate that a server showed."""
    assert isinstance(user.sock, ssl.SSLSocket)
    certificate = user.sock.getpeercert()
    assert certificate is not None
    return tuple(str(name[1]) for name in certificate["subjectAltName"])


@pytest.fixture
def site(make_site: MakeSite, pair: PairFiles) -> Site:
    site = with_tls(make_site(ABOUT))
    start(site, pair)
    return site


def test_the_application_is_told_that_a_request_came_by_https(site: Site, authority: Authority) -> None:
    with secured(site, authority) as user:
        for _ in range(3):
            seen = json.loads(user.get("/a").body)
    assert (seen["wsgi.url_scheme"], seen["HTTPS"], seen["SERVER_PORT"]) == ("https", "on", str(site.port))
    assert seen["REMOTE_ADDR"] == "127.0.0.1"
    with socket.create_connection(site.listeners[0].getsockname()) as sock:
        seen = json.loads(Client(sock).get("/a").body)
    assert (seen["wsgi.url_scheme"], seen["HTTPS"]) == ("http", None)


def test_every_python_speaks_tls_1_3_and_http_1_1(
    interpreter: Interpreter,
    folder_for: Callable[[Interpreter], Path],
    make_site: MakeSite,
    authority: Authority,
    pair: PairFiles,
) -> None:
    site = with_tls(make_site(HELLO, python=interpreter.path, folder=folder_for(interpreter)))
    start(site, pair)
    context = authority.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with secured(site, authority, context=context) as user:
        assert user.get().body == b"hello"
        assert isinstance(user.sock, ssl.SSLSocket)
        assert (user.sock.version(), user.sock.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")


def test_large_bodies_pass_both_ways(site: Site, authority: Authority) -> None:
    body = os.urandom(3 << 20)
    with secured(site, authority) as user:
        for _ in range(2):
            user.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert json.loads(user.answer().body)["digest"] == hashlib.sha256(body).hexdigest()
            assert user.get("/big").body == b"x" * (1 << 20)


def test_a_client_that_reads_late_gets_all_of_a_file(site: Site, authority: Authority) -> None:
    content = os.urandom(8 << 20)
    (site.directory / "big").write_bytes(content)
    with secured(site, authority) as user:
        user.send(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
        site.wait_for(lambda row: row.connections == 1)
        with secured(site, authority) as other:
            assert other.get("/").status == 200, "nobody else waits for it"
        assert user.answer().body == content


def test_pipelined_requests_are_answered_in_order(site: Site, authority: Authority) -> None:
    with secured(site, authority) as user:
        user.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(2000)))
        assert [json.loads(user.answer().body)["PATH_INFO"] for _ in range(2000)] == [
            f"/{n}" for n in range(2000)
        ]


def test_requests_that_arrive_byte_by_byte_are_read(site: Site, authority: Authority) -> None:
    with secured(site, authority) as user:
        for byte in b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n":
            user.send(bytes((byte,)))
        assert json.loads(user.answer().body)["PATH_INFO"] == "/slow"


def test_the_end_of_a_body_without_length_is_said_inside_tls(site: Site, authority: Authority) -> None:
    with secured(site, authority) as user:
        user.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert user.rest().endswith(b"}"), "and no SSLEOFError: close_notify came before the end"


def test_plain_http_on_the_tls_port_is_told_so(site: Site) -> None:
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000)
        answer = user.answer()
        assert answer.status == 400
        assert b"https://" in answer.body
        assert user.rest() == b""


@pytest.mark.parametrize("noise", [b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 500, b"SSH-2.0-x\r\n", b""])
def test_noise_ends_the_connection_and_nothing_else(site: Site, authority: Authority, noise: bytes) -> None:
    with client(site) as user:
        user.send(noise)
        user.sock.shutdown(socket.SHUT_WR)
        user.rest()
    with secured(site, authority) as other:
        assert other.get().status == 200
    site.wait_for(lambda row: row.connections == 0)


def test_a_handshake_that_takes_too_long_is_given_up(
    make_site: MakeSite, authority: Authority, pair: PairFiles
) -> None:
    site = with_tls(make_site(HELLO, limits={"header_timeout_s": 1.0}))
    start(site, pair)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    hello = outgoing.read()
    with client(site) as silent, client(site) as slow:
        begun = time.monotonic()
        slow.send(hello[:100])
        with secured(site, authority) as user:
            assert user.get().body == b"hello", "others do not wait for them"
        assert silent.closed(WAIT_S)
        assert slow.closed(WAIT_S)
        assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize(
    ("name", "asked", "holds"),
    [
        ("a.example", "A.example.:443", True),
        ("a.example", "x.b.example", True),
        ("a.example", "c.example", False),
        ("a.example", "127.0.0.1", False),
        ("a.example", "", True),
        ("a.example", ":443", True),
        ("", "a.example", True),
        ("", "127.0.0.1:443", True),
        ("", "[::1]", True),
        ("", "c.example", False),
        ("", "", True),
    ],
)
def test_on_a_shared_address_a_connection_is_for_the_hosts_of_its_site_and_for_who_names_none(
    name: str, asked: str, holds: bool
) -> None:
    assert Names(["a.example", "*.b.example"], name).hold(asked) is holds


def test_the_name_that_is_asked_for_chooses_the_certificate(
    make_site: MakeSite, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    other = authority.issue(tmp_path, "other.example", "*.other.example", file="other")
    site = with_tls(make_site(HELLO))
    start(site, pair, other, names=("localhost 127.0.0.1", "other.example *.other.example"))
    for asked, given in (
        ("localhost", "localhost"),
        ("other.example", "other.example"),
        ("WWW.other.example", "other.example"),
    ):
        with secured(site, authority, asked) as user:
            assert shown(user)[0] == given
            assert user.get().body == b"hello"
    lenient = authority.client_context()
    lenient.check_hostname = False
    with secured(site, authority, "a.b.other.example", lenient) as user:
        assert shown(user)[0] == "localhost", (
            "a star is for one label, and the first certificate for the rest"
        )


def test_new_certificates_hold_for_new_connections_and_old_ones_live_on(
    make_site: MakeSite, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    site = with_tls(make_site(HELLO))
    worker = start(site, pair)
    with secured(site, authority) as user:
        assert user.get().status == 200
        give(worker, authority.issue(tmp_path, "localhost", "new.example", file="new"))
        deadline = time.monotonic() + WAIT_S
        while True:
            with secured(site, authority) as other:
                names = shown(other)
                assert other.get().status == 200
            if "new.example" in names:
                break
            assert time.monotonic() < deadline
        assert user.get().status == 200
        assert shown(user) == ("localhost", "127.0.0.1")


def test_a_certificate_of_no_use_changes_nothing(
    make_site: MakeSite, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    site = with_tls(make_site(HELLO))
    worker = start(site, pair)
    other = authority.issue(tmp_path, "localhost", file="other")
    give(worker, PairFiles(other.certificate, pair.key))
    worker.read(until=b"refuses its certificate")
    with secured(site, authority) as user:
        assert user.get().status == 200
        assert shown(user) == ("localhost", "127.0.0.1")


def test_a_worker_whose_first_certificate_is_of_no_use_says_why_and_ends(
    make_site: MakeSite, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    other = authority.issue(tmp_path, "localhost", file="other")
    worker = with_tls(make_site(HELLO)).run("worker")
    give(worker, PairFiles(other.certificate, pair.key))
    worker.channel.receive(messages.Loaded)
    assert "refuses its certificate" in worker.channel.receive(messages.Unhealthy).error
    assert worker.exit_status() == 4


def test_a_forked_worker_has_its_certificates_from_the_daemon_and_leaves_no_descriptor_of_them(
    make_site: MakeSite, authority: Authority, pair: PairFiles
) -> None:
    site = with_tls(make_site(HELLO))
    site.start_template()
    worker = site.fork()
    give(worker, pair)
    worker.channel.receive(messages.Ready)
    with secured(site, authority) as user:
        assert user.get().body == b"hello"
        held = [str(each.readlink()) for each in Path(f"/proc/{worker.pid}/fd").iterdir()]
    assert not [each for each in held if "pair" in each]


def test_the_health_question_is_asked_as_https_and_not_redirected(
    make_site: MakeSite, pair: PairFiles
) -> None:
    site = with_tls(
        make_site(
            """
            def application(environ, start_response):
                start_response("200 OK" if environ["wsgi.url_scheme"] == "https" else "500 No", [])
                return [b""]
            """,
            health_path="/healthz",
        )
    )
    start(site, pair, redirect="https://{host}")


def test_a_drain_closes_tls_connections_with_their_next_answer_and_cuts_none(
    make_site: MakeSite, authority: Authority, pair: PairFiles
) -> None:
    old = with_tls(make_site(HELLO))
    worker = start(old, pair)
    with secured(old, authority) as user, secured(old, authority) as fresh:
        assert user.get().header("Connection") is None
        new = make_site.another(old)  # type: ignore[attr-defined]
        old.drain(worker, to=new)
        old.wait_for(lambda row: row.state == "draining")
        for each in (user, fresh):
            answer = each.get()
            assert (answer.status, answer.header("Connection")) == (200, "close")
            assert each.rest() == b""
        drained = worker.channel.receive(messages.Drained)
        assert (drained.handed_over, drained.cut) == (0, 0)
        assert worker.exit_status() == 0


def test_plain_http_is_sent_on_and_https_answers_carry_hsts(
    make_site: MakeSite, authority: Authority, pair: PairFiles
) -> None:
    site = with_tls(make_site(ABOUT))
    start(site, pair, redirect="https://{host}:8443", hsts="max-age=60")
    with socket.create_connection(site.listeners[0].getsockname(), timeout=WAIT_S) as sock:
        user = Client(sock)
        for method, status in (("GET", 301), ("HEAD", 301), ("POST", 308)):
            answer = user.get("/a%20b//c?d=%C3%A4&e", method=method)
            assert answer.status == status
            assert answer.header("Location") == "https://localhost:8443/a%20b//c?d=%C3%A4&e"
            assert answer.header("Strict-Transport-Security") is None
        assert user.get("/.well-known/acme-challenge/token").status == 200
        user.send(b"GET /x HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n")
        assert user.answer().header("Location") == "https://[::1]:8443/x"
        user.send(b"GET http://www.example:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
        assert user.answer().header("Location") == "https://www.example:8443/x?y"
        user.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert user.answer().header("Location") == "https://127.0.0.1:8443/x"
    with secured(site, authority) as user:
        assert user.get("/").header("Strict-Transport-Security") == "max-age=60"
        assert user.get("/own").header("Strict-Transport-Security") == "max-age=1"


def test_a_site_without_tls_does_not_import_ssl(make_site: MakeSite) -> None:
    site = make_site(
        """
        import sys

        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"yes" if "ssl" in sys.modules else b"no"]
        """
    )
    site.start_worker()
    with client(site) as user:
        assert user.get().body == b"no"
