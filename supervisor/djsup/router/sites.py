"""Workers and the requests that wait for them, by site: so one site's flood waits in that site's queue."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from djsup.router.orders import Figures
from djsup_worker.link import DROP

if TYPE_CHECKING:
    import socket

    from djsup.core.routes import SiteRoute
    from djsup.router.clients import Client

FORGET = bytes((DROP,))
UNSAID_MAX = 100_000
"""As many connections as a router can have."""


class Worker:
    """A line to one worker."""

    __slots__ = ("busy", "fd", "lent", "open", "recv", "send", "site", "sock", "unsaid")

    def __init__(self, sock: socket.socket, site: Site) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.site = site
        self.busy = 0
        """Its requests that take a thread, as far as is known."""
        self.lent: dict[bytes, Client] = {}
        """The connections that it has, by number."""
        self.open = True
        """Whether it takes requests: it has not said that it leaves, and its line is not full."""
        self.unsaid: deque[bytes] = deque()
        """What it is to forget, and could not be told."""

    def forget(self, number: bytes) -> bool:
        """Have it close its copy of a descriptor; False: its line is full."""
        if not self.unsaid:
            try:
                self.send(FORGET + number)
            except BlockingIOError:
                pass
            except OSError:
                return True  # it is gone, and its copies with it
            else:
                return True
        if len(self.unsaid) < UNSAID_MAX:
            self.unsaid.append(number)
        return False

    def catch_up(self) -> bool:
        """Say what could not be said; whether that is all."""
        with suppress(BlockingIOError):
            while self.unsaid:
                self.send(FORGET + self.unsaid[0])
                self.unsaid.popleft()
        return not self.unsaid


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

    def choose(self, holder: Worker | None) -> Worker | None:
        """The least busy worker, of equals the one that has the descriptor; None: all have as much as they can run."""
        if holder is not None and holder.site is self and holder.open and not holder.busy:
            return holder
        least = self.route.threads
        best = None
        for worker in self.workers:
            busy = worker.busy
            if worker.open and (busy < least or (busy == least and worker is holder and best is not None)):
                best, least = worker, busy
        return best
