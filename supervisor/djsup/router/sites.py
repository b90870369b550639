"""Workers and the requests that wait for them, by site: so one site's flood waits in that site's queue."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from djsup import descriptors, shared_memory
from djsup.router.orders import Figures
from djsup_worker.link import MESSAGE_MAX_BYTES, NOBODY, TALLY
from djsup_worker.link import NOTHING as NO_DATA
from djsup_worker.tally import DONE, HEED, open_alone, open_words, size_bytes

if TYPE_CHECKING:
    from djsup.core.routes import SiteRoute
    from djsup.router.clients import Client

TALLY_BYTE = bytes((TALLY,))


class Worker:
    """A line to one worker."""

    __slots__ = (
        "awaited",
        "busy",
        "ends",
        "fd",
        "leaves",
        "lent",
        "message",
        "name",
        "open",
        "outbox",
        "recvmsg_into",
        "said",
        "site",
        "sock",
        "tally",
        "unclaimed",
    )

    def __init__(self, sock: socket.socket, site: Site, name: int, descriptors_max: int) -> None:
        """``descriptors_max``: how many descriptors the router may have."""
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.recvmsg_into = sock.recvmsg_into
        self.message = memoryview(bytearray(MESSAGE_MAX_BYTES))
        """Where each message is read into: a new buffer for each would cost more than all the rest (mmap(2))."""
        self.site = site
        self.name = name
        """As it stands in the vault's table; no other worker has it, before or after this one."""
        self.tally = self._shared(size_bytes(descriptors_max))
        """Where it writes what it has given back without a note."""
        self.busy = 0
        """Its requests that take a thread, as far as notes tell; those that the tally counts are done."""
        self.awaited = 0
        """How many connections the router waits for to come back from it."""
        self.lent: dict[bytes, Client] = {}
        """The connections that it has, by number."""
        self.unclaimed: dict[bytes, Client] = {}
        """Those that a router before had noted for it, until it has said whether it has them."""
        self.said = False
        """Whether it has said what it has: before that it gets nothing."""
        self.leaves = False
        """Whether it has said that it leaves."""
        self.open = False
        """Whether it takes requests: it has said what it has, not that it leaves, and its line is not full."""
        self.ends = False
        """Whether its line is to end once all is said."""
        self.outbox: list[bytes] = []
        """Notes that are to be sent when the events at hand are done."""

    def hear(self) -> bytes:
        """What it says; empty: it is gone.

        Raises:
            ValueError: it sends a descriptor. Left to the kernel, its close(2) would be ours, and might wait (SO_LINGER).
            OSError: as recvmsg(2).
        """
        size, ancillary, _, _ = self.recvmsg_into([self.message], descriptors.ROOM, socket.MSG_CMSG_CLOEXEC)
        if ancillary:
            descriptors.close_all(descriptors.in_message(ancillary))
            raise ValueError(f"{self.site.route.site}: a worker sends a descriptor")
        return bytes(self.message[:size])

    def _shared(self, size: int) -> memoryview:
        """A tally that the worker knows of."""
        try:
            fd = shared_memory.of_size("djsup-tally", size)
            try:
                words = open_words(fd)
                socket.send_fds(self.sock, [TALLY_BYTE + NOBODY + NO_DATA], [fd])
            finally:
                os.close(fd)
        except OSError:  # too many descriptors are on their way, or the worker is gone: its line's end tells
            return open_alone(size)
        return words

    def close(self) -> None:
        """End the line, and forget the tally: as long as that is mapped, it costs a descriptor (CPython's mmap keeps one)."""
        self.sock.close()
        self.tally = open_alone(self.tally.nbytes)

    def heed(self) -> bool:
        """Have it say by notes what it gives back from now on; False: it did already."""
        if self.tally[HEED]:
            return False
        self.tally[HEED] = 1
        return True

    def heed_no_more(self) -> None:
        """Have it use the tally again, if nobody waits."""
        if not self.awaited and not self.site.queue:
            self.tally[HEED] = 0

    def flush(self) -> None:
        """Send what there is to say.

        Raises:
            BlockingIOError: the line is full; what is left is said later.
            OSError: it is gone.
        """
        outbox = self.outbox
        while outbox:
            message = b"".join(outbox)
            if len(message) <= MESSAGE_MAX_BYTES:
                self.sock.send(message)
                outbox.clear()
                return
            self.sock.send(outbox[0])  # rare: long heads, which fit one by one
            del outbox[0]


class Site:
    """One site's workers and queue."""

    def __init__(self, route: SiteRoute) -> None:
        self.route = route
        self.workers: list[Worker] = []
        """Those that have not said that they leave."""
        self.queue: deque[Client] = deque()
        self.figures = Figures()
        self.called_at = 0.0
        """When the daemon was last told that somebody waits and nobody is there."""

    def choose(self, holders: list[Worker]) -> Worker | None:
        """The least busy worker, of equals one that has the descriptor; None: all have as much as they can run."""
        least = self.route.threads
        best = None
        for worker in self.workers:
            busy = worker.busy - worker.tally[DONE]
            if worker.open and (busy < least or (busy == least and best is not None and worker in holders)):
                best, least = worker, busy
        return best

    def is_least_busy(self, worker: Worker) -> bool:
        """Whether one of ours has room, and no other has more."""
        busy = worker.busy - worker.tally[DONE]
        if not worker.open or busy >= self.route.threads:
            return False
        if busy:
            for each in self.workers:
                if each.open and each.busy - each.tally[DONE] < busy:
                    return False
        return True
