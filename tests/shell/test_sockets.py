from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from djsup.core.model import Address, AddressKind
from djsup.shell.sockets import CannotListen, Listeners
from system.daemon import free_port


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners()
    yield made
    made.close_all()


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address(AddressKind.TCP, host, port)


def test_a_bound_listener_takes_connections_and_does_not_block(listeners: Listeners) -> None:
    address = tcp(free_port())
    listeners.bind(address)
    with pytest.raises(BlockingIOError):
        listeners.socket(address).accept()
    with socket.create_connection(("127.0.0.1", address.port), timeout=5):
        pass


def test_binding_twice_is_binding_once(listeners: Listeners) -> None:
    address = tcp(free_port())
    listeners.bind(address)
    before = listeners.fileno(address)
    listeners.bind(address)
    assert listeners.fileno(address) == before


def test_ipv6_is_bound_apart_from_ipv4_on_the_same_port(listeners: Listeners) -> None:
    port = free_port()
    listeners.bind(tcp(port))
    listeners.bind(tcp(port, "::1"))
    with socket.create_connection(("::1", port), timeout=5):
        pass


def test_a_taken_port_names_its_holder_and_what_to_do(listeners: Listeners) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            CannotListen, match=rf"127\.0\.0\.1:{port}: the address is in use by pid \d+ .*choose"
        ):
            listeners.bind(tcp(port))


def test_an_address_of_another_machine_is_named(listeners: Listeners) -> None:
    with pytest.raises(CannotListen, match="this machine has no such address"):
        listeners.bind(tcp(free_port(), "192.0.2.1"))


def test_a_stale_unix_socket_is_replaced_and_removed_at_the_end(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    address = Address(AddressKind.UNIX, str(path))
    listeners.bind(address)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close(address)
    assert not path.exists()


def test_a_unix_socket_on_which_somebody_listens_is_left_alone(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(CannotListen, match="another process listens on it"):
            listeners.bind(Address(AddressKind.UNIX, str(path)))
        assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="no socket"):
        listeners.bind(Address(AddressKind.UNIX, str(path)))
    assert path.read_text() == "precious"
