"""A client's connection, as the router has it."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING

from djsup_worker.link import LENGTH, NUMBER

if TYPE_CHECKING:
    import socket

    from djsup.router.sites import Site, Worker

Ends = tuple[str, str]
"""A host and a port; two empty strings on a Unix socket."""


class State(Enum):
    """Whom a connection waits for."""

    FRESH = "fresh"
    """The client: it has sent nothing yet."""
    IDLE = "idle"
    """The client: it may send another request."""
    HEAD = "head"
    """The client: its request's head is not whole."""
    QUEUED = "queued"
    """A worker."""
    LENT = "lent"
    """A worker has it, until it is idle again."""
    TOLD = "told"
    """The client: to read its last answer and go."""
    GONE = "gone"
    """Nobody."""


class Client:
    """One connection."""

    __slots__ = (
        "data",
        "fd",
        "hinted",
        "holders",
        "local",
        "muted",
        "number",
        "peer",
        "recv",
        "server_name",
        "since",
        "site",
        "sock",
        "state",
        "tls",
        "waits",
    )

    def __init__(
        self, sock: socket.socket, number: int, local: Ends, peer: Ends, now: float, *, tls: bool = False
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.number = NUMBER.pack(number)
        self.local = local
        self.peer = peer
        self.state = State.FRESH
        self.since = now
        """When the state began."""
        self.data = b""
        """What was read of a request that no worker has yet."""
        self.hinted = False
        """Whether something came while a worker had it."""
        self.muted = False
        """Whether the kernel may hold bytes that nobody will be told of, so that it has to be asked again."""
        self.site: Site | None = None
        """Whose its request is, or was."""
        self.holders: list[Worker] = []
        """Who keeps a copy of its descriptor."""
        self.waits = False
        """Whether its worker only waits for the client."""
        self.tls = tls
        self.server_name = ""
        """The name that it has asked for as it began TLS."""

    @property
    def note(self) -> bytes:
        """What a worker that does not have it has to know of it."""
        note = json.dumps({"local": self.local, "peer": self.peer, "name": self.server_name}).encode()
        return LENGTH.pack(len(note)) + note
