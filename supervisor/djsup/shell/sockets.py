"""Listening sockets. The daemon owns them all.

Knows addresses and errors; leaves to the workers what happens on a connection. A listening socket is
shared by the workers of a site and does not block; the kernel queues what no worker takes.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from djsup.core.model import Address, AddressKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


BACKLOG = 4096
"""Connections that the kernel queues for a listener; it cuts this to net.core.somaxconn."""


class CannotListen(Exception):
    """A listener could not be bound; the text says which, why and what to do."""


class Listeners:
    """The bound listeners, by address."""

    def __init__(self, inherited: Iterable[tuple[str, socket.socket]] = ()) -> None:
        """``inherited``: sockets that whoever started the daemon has handed over, with their names."""
        self._bound: dict[Address, socket.socket] = {}
        self._inherited = list(inherited)
        self.bound: Callable[[Address, int], None] = lambda _address, _fd: None
        """Called for each listener that is ours alone, and would be lost with us."""
        self.closed: Callable[[Address], None] = lambda _address: None
        """Called when such a one is closed."""

    def bind(self, address: Address) -> None:
        """Bind and listen; bound already: nothing.

        Raises:
            CannotListen: the address is taken, not ours, or not allowed.
        """
        if address in self._bound:
            return
        match address.kind:
            case AddressKind.TCP:
                self._bound[address] = self._kept(address) or _listen_tcp(address)
            case AddressKind.UNIX:
                self._bound[address] = self._kept(address) or _listen_unix(address)
            case AddressKind.FD:
                self._bound[address] = self._named(address)
                return
        self.bound(address, self._bound[address].fileno())

    def _kept(self, address: Address) -> socket.socket | None:
        """The listener of this address that was kept for us while we were dead; None: none was."""
        for each in self._inherited:
            if listens_on(each[1], address):
                self._inherited.remove(each)
                each[1].setblocking(False)
                return each[1]
        return None

    def _named(self, address: Address) -> socket.socket:
        """A copy of the socket of that name: the site may be stopped, and started again.

        Raises:
            CannotListen: there is none, or it is of no use.
        """
        found = [sock for name, sock in self._inherited if name == address.host]
        if not found:
            names = ", ".join(sorted({name for name, _ in self._inherited})) or "none"
            raise CannotListen(
                f"no socket of the name {address.host!r} was handed over (LISTEN_FDNAMES; there is: {names}); "
                f"FileDescriptorName={address.host} in a .socket unit names one"
            )
        if len(found) > 1:
            raise CannotListen(
                f"{len(found)} sockets of the name {address.host!r} were handed over; "
                "give each a .socket unit of its own, with a name of its own"
            )
        if not listens(found[0]):
            raise CannotListen(f"the socket of the name {address.host!r} is no listening stream socket")
        listener = found[0].dup()
        listener.setblocking(False)
        return listener

    def drop_kept(self, prefix: str) -> list[str]:
        """Close what was kept for us and nobody wants: clients would queue there for ever. Gives the names."""
        dropped = [each for each in self._inherited if each[0].startswith(prefix)]
        self._inherited = [each for each in self._inherited if each not in dropped]
        for _, sock in dropped:
            sock.close()
        return [name for name, _ in dropped]

    def adopt(self, address: Address, listener: socket.socket) -> bool:
        """Take over a listener from a process that an earlier daemon has left; False: it is not this one's."""
        if address in self._bound or not listens_on(listener, address):
            return False
        listener.setblocking(False)
        self._bound[address] = listener
        self.bound(address, listener.fileno())
        return True

    def held(self) -> tuple[list[tuple[Address, int]], list[tuple[str, int]]]:
        """What another program of the daemon needs: the bound listeners, and what is kept by name."""
        bound = [(address, listener.fileno()) for address, listener in self._bound.items()]
        return bound, [(name, sock.fileno()) for name, sock in self._inherited]

    def take_over(self, bound: Iterable[tuple[Address, int]]) -> None:
        """Go on with the listeners that another program of the daemon has bound."""
        for address, fd in bound:
            listener = self._bound[address] = socket.socket(fileno=fd)
            listener.setblocking(False)

    def __contains__(self, address: Address) -> bool:
        """Whether it is bound."""
        return address in self._bound

    def close(self, address: Address) -> None:
        """Close a listener; the file of a Unix socket goes with it. Not bound: nothing."""
        listener = self._bound.pop(address, None)
        if listener is None:
            return
        if address.kind is AddressKind.UNIX:
            with suppress(OSError):
                Path(address.host).unlink()
        listener.close()
        if address.kind is not AddressKind.FD:
            self.closed(address)

    def close_all(self) -> None:
        """Close every listener."""
        for address in list(self._bound):
            self.close(address)

    def fileno(self, address: Address) -> int:
        """The descriptor of a bound listener.

        Raises:
            KeyError: it is not bound.
        """
        return self._bound[address].fileno()

    def socket(self, address: Address) -> socket.socket:
        """The socket of a bound listener.

        Raises:
            KeyError: it is not bound.
        """
        return self._bound[address]


def listens(sock: socket.socket) -> bool:
    """Whether this is a listening stream socket."""
    try:
        return (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        )
    except OSError:
        return False  # no socket at all


def listens_on(sock: socket.socket, address: Address) -> bool:
    """Whether this is a listening stream socket that is bound to that address, as the kernel says."""
    if not listens(sock):
        return False
    name = sock.getsockname()
    match address.kind:
        case AddressKind.UNIX:
            return sock.family == socket.AF_UNIX and name == address.host
        case AddressKind.TCP:
            if sock.family not in {socket.AF_INET, socket.AF_INET6}:
                return False
            return ip_address(name[0]) == ip_address(address.host) and name[1] == address.port
        case AddressKind.FD:
            return False  # its address is not known: whoever handed it in hands it in again


def _listen_tcp(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error
    family, _, _, _, sockaddr = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(sockaddr)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {address}: {_why(error, address)}") from error
    return listener


def _listen_unix(address: Address) -> socket.socket:
    _remove_stale(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(address.host)
        # As reachable as a loopback port: the proxy in front runs as a user of its own. Whoever wants
        # it narrower puts the socket into a folder that only the proxy's group may enter.
        Path(address.host).chmod(0o666)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error
    return listener


def _remove_stale(address: Address) -> None:
    """Remove the file of a Unix socket on which nobody listens: found by asking, not by trusting."""
    try:
        if not Path(address.host).exists():
            return
        if not Path(address.host).is_socket():
            raise CannotListen(f"cannot listen on {address}: there is a file of that name that is no socket")
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.settimeout(1.0)
        try:
            question.connect(address.host)
        except ConnectionRefusedError:
            Path(address.host).unlink(missing_ok=True)
        except OSError as error:
            raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error
        else:
            raise CannotListen(f"cannot listen on {address}: another process listens on it")


def _why(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = _holder(address.port)
        return f"the address is in use{holder}; stop that process or choose another port"
    if error.errno == errno.EACCES:
        return f"a port below 1024 needs root or CAP_NET_BIND_SERVICE, and this is uid {os.geteuid()}"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return error.strerror or str(error)


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
                continue
            if connection.laddr.port == port:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""
