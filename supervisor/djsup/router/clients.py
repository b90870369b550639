"""A client's connection, as the router has it."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING

from djsup_worker.link import LENGTH, NUMBER, RESUME
from djsup_worker.tally import PLACES

if TYPE_CHECKING:
    import socket

    from djsup.router.sites import Site, Worker

RESUME_BYTE = bytes((RESUME,))
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
        "at",
        "awaited",
        "counted",
        "early",
        "ended",
        "fd",
        "hinted",
        "holders",
        "is_head",
        "length",
        "looks",
        "muted",
        "note",
        "number",
        "place",
        "recv",
        "resume",
        "server_name",
        "since",
        "site",
        "slot",
        "sock",
        "state",
        "tls",
        "waits",
    )

    def __init__(
        self, sock: socket.socket, number: int, note: bytes, now: float, *, tls: bool = False
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.number = NUMBER.pack(number)
        self.counted = number
        self.resume = RESUME_BYTE + self.number
        """The beginning of the note that lends it again to a worker that has a copy of its descriptor."""
        self.place = PLACES + self.fd
        """Its word in the tally of each worker that has it."""
        self.note = note
        """What a worker that does not have it has to know of it, as JSON: ``describe``."""
        self.state = State.FRESH
        self.since = now
        """When the state began."""
        self.length = 0
        """How much of its request's head is to be read."""
        self.early = b""
        """What was read of that head already: nothing, but for Unix sockets, and heads that came there in pieces."""
        self.is_head = False
        """Whether its request asks for no body."""
        self.looks = 0
        """How often its head was looked at and was not whole."""
        self.ended = False
        """Whether nothing more will come."""
        self.hinted = False
        """Whether there may be something to look at that nobody will be told of."""
        self.muted = False
        """Whether the kernel was told to say no more of it."""
        self.site: Site | None = None
        """Whose its request is, or was."""
        self.at: Worker | None = None
        """Who was lent it last."""
        self.awaited = False
        """Whether that worker is to tell by a note when it gives it back."""
        self.holders: list[Worker] = []
        """Who keeps a copy of its descriptor."""
        self.slot = 0
        """Where the vault has it; 0: nowhere."""
        self.waits = False
        """Whether its worker only waits for the client."""
        self.tls = tls
        self.server_name = ""
        """The name that it has asked for as it began TLS."""

    @property
    def giver(self) -> Worker | None:
        """Who was lent it, and has written in its tally that it has given it back; None: nobody, or that is known."""
        worker = self.at
        if self.state is State.LENT and worker is not None and worker.tally[self.place] == self.counted:
            return worker
        return None


def describe(local: Ends, peer: Ends) -> bytes:
    """What a worker has to know of a connection that it has never seen."""
    return json.dumps({"local": local, "peer": peer}).encode()


def noted(client: Client) -> bytes:
    """The same, as it goes with a connection's first request: with its place in the tally, or the name that it asks for in TLS."""
    note = client.note
    if client.tls:
        note = json.dumps({**json.loads(note), "name": client.server_name}).encode()
    else:
        note = b'%s, "place": %d}' % (note[:-1], client.place)  # each new connection's way: no time for JSON
    return LENGTH.pack(len(note)) + note
