"""Several sites on one address, as a user has them: real sites, a real router, whatever is killed."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from tools import debian

from authority import Authority
from djsup.router.pages import UNRECOGNIZED_NAME
from djsup.router.vault import NAME
from router.test_routing import client_hello
from system.crowd import Crowd, Talk, asks, is_silent, sends_many, sends_pieces, uploads
from system.daemon import URLS, DaemonUnderTest, Project, free_port, wait_for
from system.load import Load
from system.proxy import PROGRAMS, config_of, running
from system.test_adoption import is_over, kill

URLS_OF_SHOP = URLS.replace("return HttpResponse(VERSION)", "return HttpResponse(VERSION + request.path)", 1)


def shared(daemon: DaemonUnderTest, django: Path, top: str = "", **sites: str) -> int:
    """Sites that share a port, each with what is special about it."""
    port = free_port()
    daemon.top = f'listen = ["127.0.0.1:{port}"]\n{top}'
    for name, more in sites.items():
        Project(daemon.folder / name).deploy(name, urls=URLS_OF_SHOP % {"version": name, "health": 200})
        daemon.ports[name] = port
        daemon.sites[name] = (
            f'[sites.{name}]\ndirectory = "{daemon.folder / name}"\npython = "{django}"\n{more}\n'
        )
    daemon.write()
    return port


def ask(connection: http.client.HTTPConnection, host: str, path: str = "/") -> tuple[int, str]:
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def connect(port: int) -> AbstractContextManager[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))


def router_of(daemon: DaemonUnderTest) -> psutil.Process | None:
    for each in daemon.family():
        with suppress(psutil.Error):  # it has just ended
            if "djsup.router" in each.cmdline() and each.name() != NAME:
                return each
    return None


TWO = {
    "blog": 'hosts = ["localhost", "*.localhost"]\nworkers = 2\nhealth.path = "/healthz"',
    "shop": 'hosts = ["127.0.0.1", "localhost"]\nmount = "/shop"\nworkers = { min = 0, max = 2 }\n'
    "scaling = { start_asleep = true }",
}


def test_proxies_find_sites_on_the_address_that_they_share(daemon: DaemonUnderTest, django: Path) -> None:
    port = shared(daemon, django, 'trusted_proxies = ["127.0.0.1"]\n', **TWO)
    daemon.start()
    with ExitStack() as proxies:
        for proxy in PROGRAMS:
            if debian.find(PROGRAMS[proxy]) is None:
                continue
            front = free_port()
            text = config_of(daemon.config, proxy, f"http://127.0.0.1:{front}")
            proxies.enter_context(running(proxy, daemon.folder / proxy, text, front))
            with connect(front) as connection:
                for host, path, answered in (
                    ("localhost", "/", "blog/"),
                    ("localhost", "/shop/", "shop/shop/"),
                    ("127.0.0.1", "/shop/", "shop/shop/"),
                ):
                    assert ask(connection, host, path) == (200, answered), (proxy, text)
        with Load(port, connections=4) as load:
            daemon.reload_well("blog")
        assert (load.outcome.closed, load.outcome.failures) == (0, []), load.outcome.summary()


def test_one_connection_asks_two_sites_wakes_one_and_outlives_a_reload(
    daemon: DaemonUnderTest, django: Path
) -> None:
    port = shared(daemon, django, **TWO)
    daemon.start()
    with connect(port) as connection:
        assert ask(connection, f"localhost:{port}") == (200, "blog/")
        assert daemon.status("shop")["state"] == "sleeping"
        assert ask(connection, f"localhost:{port}", "/shop/") == (200, "shop/shop/")
        ours = connection.sock
        Project(daemon.folder / "blog").deploy("two", urls=URLS_OF_SHOP % {"version": "two", "health": 200})
        with Load(port, connections=4) as load:
            daemon.reload_well("blog")
        assert (load.outcome.closed, load.outcome.failures) == (0, []), load.outcome.summary()
        wait_for(lambda: len(daemon.workers("blog")) == 2, "the old workers to go")
        assert ask(connection, "localhost") == (200, "two/")
        assert connection.sock is ours, "the connection was closed"
    router = router_of(daemon)
    assert router is not None
    if os.geteuid() == 0:
        assert router.uids().effective != 0


BUSY = {
    "blog": 'hosts = ["localhost"]\nworkers = 2\nhealth.path = "/healthz"',
    "shop": 'hosts = ["localhost"]\nmount = "/shop"\nworkers = 2',
    "slow": 'hosts = ["localhost"]\nmount = "/slow"\nworkers = 1\nthreads = 1',
}
CROWD: dict[str, tuple[int, Talk]] = {
    "asks": (4, asks("/", "blog/")),
    "asks another": (2, asks("/shop/", "shop/shop/")),
    "waits in a queue": (6, asks("/slow/slow?s=0.03", "slow")),
    "sends pieces": (4, sends_pieces("/shop/", "shop/shop/")),
    "sends many": (
        2,
        sends_many(("/", "blog/"), ("/shop/", "shop/shop/"), ("/slow/", "slow/slow/"), ("/", "blog/")),
    ),
    "uploads": (2, uploads("/shop/upload", "/", "blog/", chunked=False)),
    "uploads chunks": (2, uploads("/upload", "/", "blog/", chunked=True)),
    "is silent": (4, is_silent("/", "blog/")),
}


def vault_of(daemon: DaemonUnderTest) -> psutil.Process:
    """The vault: the router's child, or the daemon's once the router that has forked it is gone."""

    def found() -> psutil.Process | None:
        for each in daemon.family():
            with suppress(psutil.Error):
                if each.name() == NAME and each.status() != psutil.STATUS_ZOMBIE:
                    return each
        return None

    return wait_for(found, "a vault")


def kill_router(daemon: DaemonUnderTest) -> None:
    router = router_of(daemon)
    assert router is not None
    router.kill()
    wait_for(lambda: (found := router_of(daemon)) is not None and found != router, "another router")


def test_whatever_happens_to_the_router_no_client_notices(daemon: DaemonUnderTest, django: Path) -> None:
    """It is killed again and again, its vault is, the sites are reloaded, the daemon is replaced, and killed."""
    port = shared(daemon, django, **BUSY)
    daemon.start()
    with Crowd(port, CROWD) as crowd:
        for _ in range(3):
            kill_router(daemon)
            crowd.wait_for(1)
        for _ in range(2):  # one that a router before has forked, and one of this router's
            vault = vault_of(daemon)
            vault.kill()
            wait_for(lambda gone=vault: vault_of(daemon) != gone, "another vault")  # type: ignore[misc]
            wait_for(lambda gone=vault: not psutil.pid_exists(gone.pid), "its remains to be gone")  # type: ignore[misc]
            crowd.wait_for(1)
        kill_router(daemon)
        daemon.done("reload", "--no-wait")
        kill_router(daemon)
        crowd.wait_for(2)
        wait_for(
            lambda: all(not each["last_reload"]["error"] for each in daemon.status()["sites"]), "the reload"
        )
        daemon.done("upgrade")
        crowd.wait_for(2)
        kill_router(daemon)
        crowd.wait_for(1)
        vault = vault_of(daemon)
        kill(daemon)
        crowd.wait_for(1)
        daemon.start()
        crowd.wait_for(2)
    assert len([each for each in daemon.events() if each["kind"] == "router-died"]) == 6
    wait_for(lambda: vault.num_fds() < 10, "the vault to be empty")
    daemon.stop()
    wait_for(lambda: is_over(vault.pid), "the vault to end")


def test_the_next_daemon_takes_the_shared_address_over(daemon: DaemonUnderTest, django: Path) -> None:
    port = shared(daemon, django, **TWO)
    daemon.start()
    before = {each["pid"] for each in daemon.workers("blog")}
    with Load(port, connections=4, keep_alive=False) as load:
        kill(daemon)
        load.wait_for_requests(20)
        daemon.start()
        load.wait_for_requests(20)
    assert load.outcome.failures == [], load.outcome.summary()
    assert {each["pid"] for each in daemon.workers("blog")} == before


@pytest.fixture
def tmp_for_nobody() -> Iterator[Path]:
    """A folder that the router's user can enter; pytest's own can be entered by none but us."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_certbots_webroot_and_redirects_are_served_for_every_host(
    daemon: DaemonUnderTest, django: Path, tmp_for_nobody: Path
) -> None:
    webroot = tmp_for_nobody / "acme"
    challenges = webroot / ".well-known" / "acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "a-Token_1").write_text("a-Token_1.thumbprint")
    (challenges / "link").symlink_to("/etc/passwd")
    top = f'acme_dir = "{webroot}"\nredirects = {{ "www.blog.example" = "https://blog.example" }}\n'
    port = shared(daemon, django, top, blog='hosts = ["localhost"]')
    daemon.start()

    def said(host: str, path: str) -> tuple[int, str]:
        with connect(port) as connection:
            return ask(connection, host, path)

    for host in ("localhost", "www.blog.example", "unknown.example"):
        assert said(host, "/.well-known/acme-challenge/a-Token_1") == (200, "a-Token_1.thumbprint")
    for name in ("link", "..", "..%2f..%2f..%2fetc%2fpasswd", "b", ""):
        assert said("unknown.example", f"/.well-known/acme-challenge/{name}")[0] == 404
    with connect(port) as connection:
        connection.request("POST", "/a?b=c", body=b"x", headers={"Host": "www.blog.example"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (308, "https://blog.example/a?b=c")


def raw(port: int, data: bytes) -> bytes:
    """All that is answered to these bytes, until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(data)
        return b"".join(iter(partial(client.recv, 1 << 16), b""))


ANSWERS = (
    (b"GET / HTTP/1.1", "bücher.example".encode(), b"HTTP/1.1 400 "),
    (b"GET / HTTP/1.1", "bücher.example".encode("latin-1"), b"HTTP/1.1 400 "),
    (b"GET / HTTP/1.1", b"\xff.localhost", b"HTTP/1.1 400 "),
    (b"GET / HTTP/1.1", b"a b", b"HTTP/1.1 400 "),
    (b"GET http:/// HTTP/1.1", b"localhost", b"HTTP/1.1 400 "),
    (b"GET / HTTP/2.0", b"unknown.example", b"HTTP/1.1 505 "),
    (b"CONNECT unknown.example:443 HTTP/1.1", b"unknown.example:443", b"HTTP/1.1 501 "),
    (b"BREW / HTTP/1.1", b"unknown.example", b"HTTP/1.1 501 "),
    (b"GET / HTTP/1.1", b"unknown.example", b"HTTP/1.1 404 "),
    (b"GET http://xn--bcher-kva.example?a HTTP/1.1", b"x", b"\r\nLocation: https://blog.example/?a\r\n"),
)


def test_what_is_no_sites_is_refused_as_a_worker_would_by_a_router_that_can_import_nothing(
    daemon: DaemonUnderTest, django: Path
) -> None:
    top = 'redirects = { "bücher.example" = "https://blog.example" }\n'
    port = shared(daemon, django, top, blog='hosts = ["localhost", "öl.example", "*.localhost"]')
    daemon.start()
    for line, host, answer in ANSWERS:
        said = raw(port, line + b"\r\nHost: " + host + b"\r\n\r\n")
        assert answer in said, (line, host)
    assert "mistake" not in daemon.log


def test_tls_is_told_apart_by_name_and_keeps_to_it(daemon: DaemonUnderTest, django: Path) -> None:
    authority = Authority()
    tls = {}
    for name in ("blog", "shop"):
        (daemon.folder / f"keys-{name}").mkdir()
        made = authority.issue(daemon.folder / f"keys-{name}", f"{name}.localhost")
        files = f'certificate = "{made.certificate}", key = "{made.key}"'
        tls[name] = f'hosts = ["{name}.localhost"]\ntls = {{ {files} }}\n'
    port = free_port()
    shared(daemon, django, f'tls_listen = ["127.0.0.1:{port}"]\n', **tls)
    for name in tls:
        file = daemon.folder / name / "project" / "settings.py"
        file.write_text(file.read_text().replace('"localhost", ', '".localhost", '))
    daemon.start()
    for name in tls:
        for pieces in (1, 50):
            with socket.create_connection(("127.0.0.1", port)) as plain:
                said = handshake(authority.client_context(), plain, f"{name}.localhost", pieces)
                assert f"\r\n\r\n{name}/" in said
                assert "HTTP/1.1 421 " in said
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            authority.client_context().wrap_socket(plain, server_hostname=f"{name}.localhost") as inside,
        ):
            inside.sendall(b"GET / HTTP/1.0\r\n\r\n")
            said = b"".join(iter(partial(inside.recv, 1 << 16), b"")).decode()
            assert said.startswith("HTTP/1.1 200 "), "who names no host asks for no other site's"
            assert said.endswith(f"\r\n\r\n{name}/")
    for unknown in (b"unknown.localhost", b"\xfc.localhost", "ü.localhost".encode()):
        assert raw(port, client_hello(unknown)) == UNRECOGNIZED_NAME
    assert raw(port, b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert "mistake" not in daemon.log


def handshake(
    trust: ssl.SSLContext,
    plain: socket.socket,
    name: str,
    pieces: int,
    midway: Callable[[], None] = lambda: None,
) -> str:
    """What is said to a request for this name and one for another, after a ClientHello in pieces.

    ``midway`` is called when the first piece is sent.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = trust.wrap_bio(incoming, outgoing, server_hostname=name)
    plain.settimeout(30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(after_first: Callable[[], None] = lambda: None) -> None:
        data = outgoing.read()
        size = max(1, len(data) // pieces)
        for at in range(0, len(data), size):
            plain.sendall(data[at : at + size])
            if not at:
                after_first()

    def more(what: str) -> None:
        send()
        data = plain.recv(1 << 16)
        assert data, f"the connection ended in {what}"
        incoming.write(data)

    with suppress(ssl.SSLWantReadError):
        inside.do_handshake()
    send(midway)
    while True:
        try:
            inside.do_handshake()
            break
        except ssl.SSLWantReadError:
            more("the handshake")
    inside.write(
        f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\nGET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n".encode()
    )
    send()
    said = b""
    while b"421 Misdirected Request\n" not in said and b" 421 " not in said:
        try:
            said += inside.read(1 << 16)
        except ssl.SSLWantReadError:
            more(f"the answer; {said!r}")
    return said.decode()


def test_a_router_that_is_told_to_end_is_started_again(daemon: DaemonUnderTest, django: Path) -> None:
    port = shared(daemon, django, **TWO)
    daemon.start()
    router = router_of(daemon)
    assert router is not None
    os.kill(router.pid, signal.SIGTERM)
    wait_for(lambda: (found := router_of(daemon)) is not None and found != router, "another router")
    with connect(port) as connection:
        assert ask(connection, "localhost") == (200, "blog/")
