"""Whom a site believes about its clients: decided by a connection's peer, once, when it comes.

Each kind of peer has a reader of heads of its own, so what a reader remembers was always read with the same
trust. A peer that is not trusted cannot say who or where its client is: such fields are dropped, whatever
the application would make of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence

from djsup_worker.forwarding import Environ, Networks, believe
from djsup_worker.request import HeadReader
from djsup_worker.wsgi import complain

if TYPE_CHECKING:
    from djsup_worker.connection import Connection

NEIGHBOURS = frozenset(("", "127.0.0.1", "::1"))
"""Where a proxy on the same machine comes from; an empty host is a Unix socket."""


class Trust:
    """The setting ``trusted_proxies`` of one site, and what follows from it."""

    def __init__(self, site: str, names: Sequence[str] = (), *, proxy_protocol: bool = False) -> None:
        self.site = site
        self.networks: Optional[Networks] = Networks(names) if names else None
        self.proxy_protocol = proxy_protocol and self.networks is not None
        self._said: List[str] = []
        self.of_strangers = HeadReader()
        """Reads the heads of peers that are not believed."""
        self.of_neighbours = HeadReader(on_dropped=self._hint)
        """As that, for peers of this machine: perhaps a proxy whose owner has not named it."""
        self.of_proxies = HeadReader(believe=self._believe)

    def trusts(self, host: str) -> bool:
        """Whether a peer is believed what it says of its clients and their requests."""
        return self.networks is not None and self.networks.hold(host)

    def reader_for(self, host: str) -> HeadReader:
        """Who reads the heads of a peer."""
        if self.trusts(host):
            return self.of_proxies
        return self.of_neighbours if host in NEIGHBOURS else self.of_strangers

    def expects_preface(self, host: str) -> bool:
        """Whether a peer begins its connections with a PROXY header."""
        return self.proxy_protocol and self.trusts(host)

    def disbelieve(self, connection: Connection) -> None:
        """Believe no field of a connection, though its peer is trusted: another speaks through it.

        Another worker would not know, so the connection stays with this one.
        """
        connection.reader = self.of_strangers
        connection.movable = False

    def say_once(self, text: str) -> None:
        """Tell the site's log what its owner may want to change; the same only once."""
        if text not in self._said:
            self._said.append(text)
            complain(self.site, text)

    def _believe(self, environ: Environ) -> Optional[Environ]:
        assert self.networks is not None
        return believe(environ, self.networks)

    def _hint(self, _name: str) -> None:
        self.say_once(
            "fields such as X-Forwarded-For and X-Forwarded-Proto came from this machine and were removed: if a "
            "proxy here sends them, name it in trusted_proxies"
        )
