"""A connection whose first words are its proxy's: it waits for the PROXY header, and then is its client's.

Never reads a byte that follows the header, so what it makes way for finds all of them in the kernel. What
the header means is ``proxy_header``'s part.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from djsup_worker.connection import HEAD, Connection
from djsup_worker.proxy_header import V2_MAX_BYTES, Malformed, needed, read

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.proxy_header import Address

Admit = Callable[[socket.socket, "Address", "Address"], Optional[Connection]]
"""Serve a connection: it, its local address, its peer's. None: it is gone already."""


class Preface(Connection):
    """It has the time that a header section has, and is closed without an answer if the header is not right."""

    __slots__ = ("_admit", "_header", "_local")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        base: Dict[str, Any],
        local: Address,
        peer: Address,
        now_ns: int,
        admit: Admit,
    ) -> None:
        super().__init__(loop, sock, base, peer[0], peer[1], now_ns)
        self.movable = False
        self._admit = admit
        self._local = local
        self._header = b""

    def ready(self, _mask: int) -> None:
        """There is more of the header, or an end."""
        try:
            seen = self.sock.recv(V2_MAX_BYTES, socket.MSG_PEEK)
            if not seen:
                self.close()
                return
            whole = needed(self._header + seen)
            self._header += self.sock.recv(min(whole - len(self._header), len(seen)))
            if len(self._header) == whole:
                self._understand()
            elif self.phase != HEAD:
                self.phase = HEAD  # since_ns stays: the time runs from the accept
                self.loop.watch_phase(self)
        except BlockingIOError:
            return
        except Malformed:
            self.loop.trust.say_once(
                "a connection from %s did not begin with a PROXY header and was closed: with proxy_protocol a proxy "
                "in trusted_proxies has to send one" % (self.peer_host or "a Unix socket")
            )
            self.close()
        except OSError:
            self.close()

    def expire(self) -> None:
        """The header is not here in time."""
        self.close()

    def _understand(self) -> None:
        announced = read(self._header)
        self.loop.release(self)
        if announced.source is None or announced.destination is None:
            connection = self._admit(self.sock, self._local, (self.peer_host, self.peer_port))
            if connection is not None and not announced.by_proxy:
                self.loop.trust.disbelieve(connection)
        else:
            self._admit(self.sock, announced.destination, announced.source)
