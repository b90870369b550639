"""TLS on an address that sites share, whatever is killed: who is inside stays, who is on the way arrives."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from authority import Authority
from system.crowd import Crowd, Talk, asks, is_silent, sends_many, sends_pieces, uploads
from system.daemon import DaemonUnderTest, free_port, wait_for
from system.test_adoption import is_over, kill
from system.test_router import handshake, kill_router, router_of, shared, vault_of

SITES = ("blog", "shop")


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def port(daemon: DaemonUnderTest, django: Path, authority: Authority) -> int:
    """Where two sites speak TLS, each with two workers."""
    port = free_port()
    more = {}
    for name in SITES:
        (daemon.folder / f"keys-{name}").mkdir()
        made = authority.issue(daemon.folder / f"keys-{name}", f"{name}.localhost")
        more[name] = (
            f'hosts = ["{name}.localhost"]\nworkers = 2\nlimits.header_timeout = 60\nhealth.path = "/healthz"\n'
            f'tls = {{ certificate = "{made.certificate}", key = "{made.key}" }}\n'
        )
    shared(daemon, django, f'tls_listen = ["127.0.0.1:{port}"]\n', **more)
    for name in SITES:
        file = daemon.folder / name / "project" / "settings.py"
        file.write_text(file.read_text().replace('"localhost", ', '".localhost", '))
    daemon.start()
    return port


def kinds(site: str) -> dict[str, tuple[int, Talk]]:
    return {
        "asks": (2, asks("/", f"{site}/")),
        "is slow": (2, asks("/slow?s=0.1", site)),
        "sends pieces": (2, sends_pieces("/", f"{site}/")),
        "sends many": (1, sends_many(("/", f"{site}/"), ("/slow?s=0.05", site), ("/", f"{site}/"))),
        "uploads": (1, uploads("/upload", "/", f"{site}/", chunked=False)),
        "uploads chunks": (1, uploads("/upload", "/", f"{site}/", chunked=True)),
        "is silent": (3, is_silent("/", f"{site}/")),
    }


def kill_vault(daemon: DaemonUnderTest) -> None:
    vault = vault_of(daemon)
    vault.kill()
    wait_for(lambda: vault_of(daemon) != vault, "another vault")


def kill_both(daemon: DaemonUnderTest) -> None:
    vault, router = vault_of(daemon), router_of(daemon)
    assert router is not None
    router.suspend()  # so that it starts no other vault
    vault.kill()
    router.kill()
    wait_for(lambda: (found := router_of(daemon)) is not None and found != router, "another router")
    wait_for(lambda: vault_of(daemon) != vault, "another vault")


def kill_daemon(daemon: DaemonUnderTest) -> None:
    kill(daemon)
    daemon.start()


def upgrade(daemon: DaemonUnderTest) -> None:
    daemon.done("upgrade")


BLOWS: dict[str, Callable[[DaemonUnderTest], None]] = {
    "router": kill_router,
    "vault": kill_vault,
    "vault of a router before": kill_vault,
    "both": kill_both,
    "router again": kill_router,
    "upgrade": upgrade,
    "router after the upgrade": kill_router,
    "daemon": kill_daemon,
    "router after the daemon": kill_router,
}


@contextmanager
def crowded(port: int, authority: Authority, *, may_fail: int) -> Iterator[list[Crowd]]:
    """Clients of every kind at each site; and some that come and go, of which so many may fail."""
    trust = authority.client_context()
    with ExitStack() as stack:
        crowds = []
        for site in SITES:
            host, some = f"{site}.localhost", {"comes and goes": (2, asks("/", f"{site}/"))}
            crowds += [
                stack.enter_context(Crowd(port, kinds(site), host=host, tls=trust)),
                stack.enter_context(Crowd(port, some, host=host, tls=trust, anew=True, may_fail=may_fail)),
            ]
        yield crowds


def test_who_is_inside_tls_notices_nothing_of_what_is_killed(
    daemon: DaemonUnderTest, port: int, authority: Authority
) -> None:
    # Who is accepted in the microseconds before a kill is lost (docs/explanation/router.md).
    with crowded(port, authority, may_fail=1) as crowds:
        for name, blow in BLOWS.items():
            if name == "daemon":
                vault = vault_of(daemon)  # no other daemon is its parent
            blow(daemon)
            for crowd in crowds:
                crowd.wait_for(1)
    assert "mistake" not in daemon.log
    wait_for(lambda: vault.num_fds() < 10, "the vault to be empty")
    daemon.stop()
    wait_for(lambda: is_over(vault.pid), "the vault to end")


@pytest.mark.parametrize("name", [name for name in BLOWS if name in ("router", "vault", "upgrade", "daemon")])
def test_who_has_not_begun_tls_or_is_in_the_middle_of_its_first_word_arrives(
    daemon: DaemonUnderTest, port: int, authority: Authority, name: str
) -> None:
    trust = authority.client_context()
    with (
        socket.create_connection(("127.0.0.1", port)) as fresh,
        socket.create_connection(("127.0.0.1", port)) as begun,
    ):
        said = handshake(trust, begun, "shop.localhost", 2, midway=lambda: BLOWS[name](daemon))
        assert "\r\n\r\nshop/" in said
        assert "\r\n\r\nblog/" in handshake(trust, fresh, "blog.localhost", 2)
