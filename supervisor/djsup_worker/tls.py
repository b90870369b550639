"""TLS: the contexts that certificates make, the listener that offers them, the connection that speaks it.

A worker of a site without TLS never imports this module, nor ``ssl``. Which pairs there are is told by the
daemon, which reads the files; OpenSSL does the cryptography. To a ``Connection`` a secured socket looks like any
other that does not block; only the handshake, the goodbye and the sending of files differ.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Dict, Optional, Sequence, Tuple

from djsup_worker.connection import FRESH, GONE, Connection
from djsup_worker.loop import Listener
from djsup_worker.refusal import TLS_ONLY, Refused

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.request import Head

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secret and authenticated, as Mozilla's "intermediate"; TLS 1.3 has no others."""
RECORD_BYTES = 16 * 1024
"""The longest record (RFC 8446, 5.1). A read of this size leaves nothing in OpenSSL that epoll would not tell of."""
FILE_BYTES = 256 * 1024
WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Certificates:
    """What this worker shows to its clients; may be renewed at any time."""

    def __init__(self) -> None:
        self._context: Optional[ssl.SSLContext] = None

    @property
    def there(self) -> bool:
        """Whether there are any yet."""
        return self._context is not None

    def renew(self, names: Sequence[str], fds: Sequence[int]) -> None:
        """Show these from the next connection on; the first goes to clients that ask for a name of none.

        ``fds`` are files that hold a certificate's chain and its key, ``names`` the names in each certificate,
        parted by spaces. They are left open. When one is of no use, nothing changes.

        Raises:
            OSError: OpenSSL refuses one (ssl.SSLError), or it cannot be read.
        """
        contexts = [new_context(fd) for fd in fds]
        exact: Dict[str, ssl.SSLContext] = {}
        for context, listed in zip(contexts, names):
            for name in listed.split():
                exact.setdefault(name.lower(), context)
        first = contexts[0]

        def choose(secured: ssl.SSLObject, name: Optional[str], _asked: ssl.SSLContext) -> None:
            if name is not None:
                found = exact.get(name.lower()) or exact.get("*." + name.lower().partition(".")[2])
                if found is not None:
                    secured.context = found

        if len(contexts) > 1:
            first.sni_callback = choose
        self._context = first

    def secure(self, sock: socket.socket) -> ssl.SSLSocket:
        """The socket of a new connection, its handshake still to be done; takes the socket over.

        Raises:
            OSError: the connection is gone already.
        """
        assert self._context is not None
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


def new_context(fd: int) -> ssl.SSLContext:
    """A context with the certificate and the key in a file.

    Raises:
        OSError: as ``Certificates.renew``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Each of them is good, so the client chooses: a telephone without AES in hardware takes ChaCha20.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # Python takes certificates from files only; this one is memory of the daemon's.
    context.load_cert_chain("/proc/self/fd/%d" % fd)
    return context


class TlsListener(Listener):
    """A listening socket whose connections begin with a handshake."""

    def __init__(self, loop: Loop, sock: socket.socket, certificates: Certificates) -> None:
        super().__init__(loop, sock)
        self._certificates = certificates

    def admit(
        self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str]
    ) -> Optional[Connection]:
        """Serve a connection that was accepted; None: it is gone already."""
        try:
            secured = self._certificates.secure(sock)
        except (OSError, ValueError):
            sock.close()  # gone before it began
            return None
        return self.loop.add(secured, local, peer, kind=TlsConnection, scheme="https")


class TlsConnection(Connection):
    """A connection inside TLS. In its handshake it is FRESH, so that takes ``header_timeout`` at most."""

    __slots__ = ("_inside", "_secured")

    def __init__(self, loop: Loop, sock: Any, *others: Any) -> None:
        super().__init__(loop, sock, *others)
        self._secured: ssl.SSLSocket = sock
        self._inside = False
        """Whether the handshake is done, and the goodbye not said."""
        self.movable = False  # what OpenSSL knows of it cannot be handed over
        self._recv = self._receive
        self._send = self._transmit

    def ready(self, mask: int) -> None:
        """The descriptor can be read, or written, or is broken."""
        if self._inside or self.phase != FRESH or self._shake():
            super().ready(mask)

    def close(self) -> None:
        """Close it, whatever it was about."""
        if self.phase != GONE:
            self._say_goodbye()
            super().close()

    # --- the handshake ---

    def _shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._secured.do_handshake()
        except ssl.SSLWantReadError:
            self._want(READ)
            return False
        except ssl.SSLWantWriteError:
            self._want(WRITE)
            return False
        except (OSError, ValueError) as error:
            self._fail(error)
            return False
        self._inside = True
        self.since_ns = time.monotonic_ns()
        self._want(READ)
        return True

    def _fail(self, error: Exception) -> None:
        """It came to nothing. OpenSSL has sent the client its reason already, if it is one of TLS."""
        reason = getattr(error, "reason", None)
        if reason == "HTTP_REQUEST":
            self._send = partial(socket.socket.send, self._secured)
            self._refuse(Refused(400, TLS_ONLY), b"")
        elif reason is not None:
            self._linger = True
            self._finish()
        else:
            self.close()

    # --- what a plain socket does by itself ---

    def _receive(self, most: int) -> bytes:
        """As ``recv`` of a socket that does not block, a record at least."""
        read = self._secured.recv
        try:
            data = read(RECORD_BYTES)
        except WANTS:
            raise BlockingIOError from None
        if len(data) < RECORD_BYTES or most <= RECORD_BYTES:
            return data
        parts = [data]
        # What ends this, a failure too, is met again by the next call.
        with contextlib.suppress(OSError):
            while len(data) == RECORD_BYTES and most > RECORD_BYTES:
                most -= RECORD_BYTES
                data = read(RECORD_BYTES)
                parts.append(data)
        return b"".join(parts)

    def _transmit(self, data: Any) -> int:
        """As ``send`` of a socket that does not block. What it did not take has to be sent next (SSL_write(3))."""
        write = self._secured.send
        size = len(data)
        sent = 0
        try:
            sent = write(data)
            if sent < size:
                rest = memoryview(data)
                while sent < size:
                    sent += write(rest[sent:])
        except WANTS:
            if not sent:
                raise BlockingIOError from None
        return sent

    def send_file(self, fd: int, offset: int, count: int) -> Optional[int]:
        """As ``Wire`` says; read here, for the kernel does not know the key."""
        data = os.pread(fd, min(count, FILE_BYTES), offset)
        if data:
            self.transmit(data)
        return len(data)

    def _finish(self) -> None:
        """Everything is sent: say so inside TLS too, or the client takes the end for an attack."""
        self._say_goodbye()
        super()._finish()

    def _say_goodbye(self) -> None:
        """RFC 8446, 6.1: close_notify before the end. The client's own is not waited for."""
        if self._inside and not self.broken and not self._out:
            self._inside = False
            with contextlib.suppress(OSError, ValueError):
                self._secured.unwrap()


class Names:
    """The hosts that may be asked for on one connection to a shared address.

    A site's own may, and the name for which the connection came to it: others are other sites'. A client that
    has asked for no name may name an address of the machine beside the site's hosts. Who names no host asks no other site.
    """

    def __init__(self, hosts: Sequence[str], name: str) -> None:
        self._hosts = [host for host in hosts if not host.startswith("*.")]
        self._below = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._name = name

    def hold(self, asked: str) -> bool:
        """Whether a request with this Host is for the site."""
        host = asked.partition("]")[0] + "]" if asked.startswith("[") else asked.partition(":")[0]
        host = host.lower()
        host = host.removesuffix(".")
        if (
            not host
            or host == self._name
            or host in self._hosts
            or (self._below and host.endswith(self._below))
        ):
            return True
        return not self._name and (host.startswith("[") or host.replace(".", "").isdigit())


class SharedTls(TlsConnection):
    """A connection inside TLS on an address that several sites share: it stays with the site that began it."""

    __slots__ = ("names",)

    names: Names

    def _serve(self, head: Head, file: IO[bytes]) -> bool:
        if self.names.hold(head[0].get("HTTP_HOST", "")):
            return super()._serve(head, file)
        self._head = head
        # RFC 9110, 15.5.20: the client may ask again on a connection of its own.
        self._refuse(Refused(421, "this connection is for another host"), b"")
        return False


def admit(
    loop: Loop,
    sock: socket.socket,
    local: Tuple[str, str],
    peer: Tuple[str, str],
    certificates: Certificates,
    names: Names,
) -> None:
    """Serve a connection that the router has passed on before its handshake."""
    try:
        sock.setblocking(False)
        secured = certificates.secure(sock)
    except (OSError, ValueError):
        sock.close()  # gone before it began
        return
    connection = loop.add(secured, local, peer, kind=SharedTls, scheme="https")
    assert isinstance(connection, SharedTls)
    connection.names = names
