"""The loop of a worker: epoll, listeners, deadlines. One thread polls at a time; who, is ``crew``'s part.

Everything here but ``wake`` and ``give_back`` is for the polling thread alone. What connections do with
their bytes is ``connection``'s part; how a worker leaves, ``departure``'s.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import resource
import select
import socket
import time
from collections import deque
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Tuple

from djsup_worker.connection import (
    BODY,
    FRESH,
    GONE,
    HEAD,
    IDLE,
    LEAVING,
    LINGER,
    LINGER_NS,
    RUNNING,
    WRITING,
    Connection,
)  # fmt: skip
from djsup_worker.crew import Crew, Hand
from djsup_worker.limits import SECOND_NS, Limits
from djsup_worker.request import HeadReader
from djsup_worker.scoreboard import (
    ACCEPTED_AT,
    CONNECTIONS_AT,
    LISTENER_ERRORS_AT,
    RowWriter,
)  # fmt: skip
from djsup_worker.wsgi import base_environ, complain, describe

if TYPE_CHECKING:
    from djsup_worker.access import Access
    from djsup_worker.application import Application
    from djsup_worker.departure import Departure

EVENTS_MAX = 64
"""Events taken with one call of epoll_wait(2)."""
ACCEPT_PAUSE_NS = SECOND_NS // 10
DESCRIPTORS_KEPT = 64
"""Descriptors left to the application when connections have taken the others."""
BASES_KEPT = 256
ACCEPT_LAST_MAX = 1024
NEVER_NS = 1 << 62

_monotonic_ns = time.monotonic_ns


class Loop:
    """What one worker polls, and what its connections share."""

    def __init__(
        self,
        *,
        site: str,
        application: Application,
        threads: int,
        limits: Limits,
        row: RowWriter,
        errors: Any,
    ) -> None:
        self.site = site
        self.application = application
        self.limits = limits
        self.row = row
        self.reader = HeadReader()
        self.crew = Crew(threads) if threads > 1 else None
        self.poller = self.crew.first if self.crew else Hand(0)
        self.connections: Dict[int, Connection] = {}
        self.departure: Optional[Departure] = None
        self.access: Optional[Access] = None
        """What writes requests down and gives them ids; None: nobody wants it."""
        self.stays = True
        """Whether answers may promise to keep their connection open."""
        self.ended = False
        self.date_line = b""
        self.date_until_ns = 0
        self.on_wake: Dict[int, Callable[[], None]] = {}
        """What to do for a signal's number written to the wake-up socket."""
        self._base = base_environ("http", multithread=threads > 1, errors=errors)
        self._bases: Dict[Tuple[str, str], Dict[str, Any]] = {}
        self._epoll = select.epoll()
        self._ready: Dict[int, Callable[[int], None]] = {}
        self._doors: List[Door] = []
        self._knocked: List[Door] = []
        self._returned: Deque[Connection] = deque()
        self._timers: List[Tuple[int, int, Callable[[], None]]] = []
        self._timer_names = count()
        self._sweep_at_ns = NEVER_NS
        self._phase_limits: Dict[int, int] = {}
        self._full = False
        self.new_limits(limits)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.watch(self._wake_in.fileno(), select.EPOLLIN, self._woken)

    # --- running ---

    def run(self) -> None:
        """Poll until ``end``."""
        if self.crew is None:
            self.poll(self.poller)
        else:
            self.crew.run(self)

    def end(self) -> None:
        """Make ``run`` return, in the main thread, as soon as that is free."""
        self.ended = True
        if self.crew is not None:
            self.crew.stop()

    def poll(self, hand: Hand) -> None:
        """Be the one that polls, until the role is lost or the loop ends."""
        self.poller = hand
        poll = self._epoll.poll
        ready = self._ready
        # The poller before may have lost the role before it came to its doors. Where every request takes
        # long each one does, and nobody would ever be let in.
        self._let_in(hand)
        while hand.backlog and not hand.lost:
            hand.backlog.popleft().turn_elsewhere(hand)
        while self._do_what_is_due(hand):
            for fd, mask in poll(self._timeout_s(), EVENTS_MAX):
                handler = ready.get(fd)
                if handler is None:
                    self._unknown(fd)
                    continue
                try:
                    handler(mask)
                except Exception as error:  # noqa: BLE001  # one connection's trouble is not the others'
                    self._trouble(fd, error)
                if hand.lost:
                    return
            if self._knocked:
                # Last, so that no connection is taken in by a worker that then begins a long request, and
                # so that no descriptor of this batch means two connections.
                self._let_in(hand)

    def _let_in(self, hand: Hand) -> None:
        """Let one in through each door at which somebody waits."""
        while self._knocked and not hand.lost:
            door = self._knocked.pop()
            if door.open:
                door.enter()

    def wake(self, number: int = 0) -> None:
        """Make the poller look; from any thread."""
        with contextlib.suppress(OSError):  # full: it is going to wake anyway
            self._wake_out.send(bytes((number,)))

    def wake_fd(self) -> int:
        """Where ``signal.set_wakeup_fd`` may write the numbers of signals."""
        return self._wake_out.fileno()

    def give_back(self, connection: Connection) -> None:
        """A thread without the polling role has ended a connection's turn; from any thread."""
        self._returned.append(connection)
        self.wake()

    def _woken(self, _mask: int) -> None:
        try:
            numbers = self._wake_in.recv(4096)
        except BlockingIOError:
            numbers = b""
        returned = self._returned
        hand = self.poller
        while returned:
            connection = returned.popleft()
            try:
                connection.came_back()
            except Exception as error:  # noqa: BLE001  # as in poll
                self._trouble(connection.fd, error)
            if hand.lost:
                if returned:
                    self.wake()
                break
        for number in set(numbers):
            if number in self.on_wake:
                self.on_wake[number]()

    def _trouble(self, fd: int, error: Exception) -> None:
        complain(self.site, "a mistake in the worker itself; the connection was closed\n%s" % describe(error))
        connection = self.connections.get(fd)
        if connection is not None and connection.phase != RUNNING:
            with contextlib.suppress(Exception):
                connection.close()

    def _unknown(self, fd: int) -> None:
        # A descriptor that was closed while a copy of it lives on in a child of the application.
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    # --- watching ---

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call ``handler(mask)`` whenever the descriptor is ready."""
        self._ready[fd] = handler
        self._epoll.register(fd, mask)

    def rewatch(self, fd: int, before: int, mask: int, handler: Callable[[int], None]) -> None:
        """Watch for something else; 0 means not at all, before or now."""
        if not mask:
            self.unwatch(fd)
        elif before:
            self._epoll.modify(fd, mask)
        else:
            self.watch(fd, mask, handler)

    def unwatch(self, fd: int) -> None:
        """Watch no more."""
        del self._ready[fd]
        self._epoll.unregister(fd)

    # --- connections ---

    def add(self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str]) -> Connection:
        """Serve a connection. ``local`` and ``peer`` are host and port; empty strings for a Unix socket."""
        sock.setblocking(False)
        now_ns = _monotonic_ns()
        connection = Connection(self, sock, self._base_for(local), peer[0], peer[1], now_ns)
        self.connections[connection.fd] = connection
        self.watch(connection.fd, select.EPOLLIN, connection.ready)
        self.row.add(CONNECTIONS_AT, 1)
        self.watch_phase(connection)
        if len(self.connections) >= self._most_connections():
            self.pause_doors(None)
            self._full = True
        return connection

    def forget(self, connection: Connection, *, registered: bool) -> None:
        """A connection ends here."""
        if self.connections.pop(connection.fd, None) is None:
            return
        if registered:
            self.unwatch(connection.fd)
        self.row.add(CONNECTIONS_AT, -1)
        if self._full and len(self.connections) < self._most_connections():
            self._full = False
            self.open_doors()
        if self.departure is not None:
            self.departure.one_less()

    def _most_connections(self) -> int:
        return max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_KEPT)

    def _base_for(self, local: Tuple[str, str]) -> Dict[str, Any]:
        base = self._bases.get(local)
        if base is None:
            base = dict(self._base, SERVER_NAME=local[0] or "localhost", SERVER_PORT=local[1] or "80")
            if len(self._bases) < BASES_KEPT:
                self._bases[local] = base
        return base

    def renew_date(self, now_ns: int) -> None:
        """Make the Date line of this second."""
        now = time.time()
        self.date_line = ("Date: %s\r\n" % formatdate(now, usegmt=True)).encode()
        self.date_until_ns = now_ns + int((1 - now % 1) * SECOND_NS)

    # --- deadlines ---

    def new_limits(self, limits: Limits) -> None:
        """Keep these limits from now on."""
        self.limits = limits
        seconds = {
            FRESH: limits.header_timeout_s,
            IDLE: limits.keepalive_s,
            HEAD: limits.header_timeout_s,
            BODY: limits.body_timeout_s,
            WRITING: limits.write_timeout_s,
        }
        self._phase_limits = {phase: int(each * SECOND_NS) for phase, each in seconds.items()}
        self._phase_limits[LINGER] = LINGER_NS
        self._phase_limits[RUNNING] = self._phase_limits[LEAVING] = self._phase_limits[GONE] = NEVER_NS
        self._sweep_at_ns = 0

    def shorten_idle(self, most_s: float) -> None:
        """Close idle and fresh connections after this time at the latest."""
        for phase in (FRESH, IDLE):
            self._phase_limits[phase] = min(self._phase_limits[phase], int(most_s * SECOND_NS))
        self._sweep_at_ns = 0

    def watch_phase(self, connection: Connection) -> None:
        """Look at a connection when its phase has lasted too long."""
        at_ns = connection.since_ns + self._phase_limits[connection.phase]
        self._sweep_at_ns = min(self._sweep_at_ns, at_ns)

    def at(self, when_ns: int, what: Callable[[], None]) -> None:
        """Call ``what`` at a reading of the monotonic clock, once."""
        heapq.heappush(self._timers, (when_ns, next(self._timer_names), what))

    def _next_ns(self) -> int:
        """When the next thing is due."""
        if self._timers and self._timers[0][0] < self._sweep_at_ns:
            return self._timers[0][0]
        return self._sweep_at_ns

    def _timeout_s(self) -> Optional[float]:
        """Seconds until something is due; None: nothing is."""
        at_ns = self._next_ns()
        return None if at_ns == NEVER_NS else max(0, at_ns - _monotonic_ns()) / SECOND_NS

    def _do_what_is_due(self, hand: Hand) -> bool:
        """Call timers and sweep; whether this thread is to go on polling."""
        at_ns = self._next_ns()
        while at_ns != NEVER_NS and at_ns <= _monotonic_ns():
            if self._timers and self._timers[0][0] == at_ns:
                heapq.heappop(self._timers)[2]()
            else:
                self._sweep(hand)
            if hand.lost:
                break
            at_ns = self._next_ns()
        return not (hand.lost or self.ended)

    def _sweep(self, hand: Hand) -> None:
        """Expire every connection whose phase has lasted too long. At most one sweep a second."""
        now_ns = _monotonic_ns()
        phase_limits = self._phase_limits
        self._sweep_at_ns = NEVER_NS
        next_ns = NEVER_NS
        for connection in list(self.connections.values()):
            at_ns = connection.since_ns + phase_limits[connection.phase]
            if at_ns > now_ns:
                next_ns = min(next_ns, at_ns)
                continue
            try:
                connection.expire()
            except Exception as error:  # noqa: BLE001  # as in poll
                self._trouble(connection.fd, error)
            if hand.lost:
                next_ns = now_ns
                break
        next_ns = max(next_ns, now_ns + SECOND_NS) if next_ns < NEVER_NS else next_ns
        self._sweep_at_ns = min(self._sweep_at_ns, next_ns)

    # --- doors ---

    def add_door(self, door: Door) -> None:
        """Take connections in through a listener or a handover socket from now on."""
        self._doors.append(door)
        self._open(door)

    def knock(self, door: Door) -> None:
        """Somebody waits at a door: let one in when the events at hand are done."""
        self._knocked.append(door)

    def pause_doors(self, for_ns: Optional[int]) -> None:
        """Take no connection in for a while; None: until ``open_doors``."""
        for door in self._doors:
            if door.open:
                door.open = False
                self.unwatch(door.fd)
        if for_ns is not None:
            self.at(_monotonic_ns() + for_ns, self.open_doors)

    def open_doors(self) -> None:
        """Take connections in again."""
        if not self._full:
            for door in self._doors:
                if not door.open:
                    self._open(door)

    def close_doors(self, kind: type) -> None:
        """Take no connection in through doors of this kind any more.

        A connection that the kernel announced to this worker alone (EPOLLEXCLUSIVE) would wait for the
        next one to arrive: so whoever waits is let in first.
        """
        for door in [door for door in self._doors if isinstance(door, kind)]:
            self._doors.remove(door)
            if door.open:
                door.open = False
                self.unwatch(door.fd)
            for _ in range(ACCEPT_LAST_MAX):
                if not door.enter():
                    break
            door.close()

    def _open(self, door: Door) -> None:
        door.open = True
        self.watch(door.fd, select.EPOLLIN | select.EPOLLEXCLUSIVE, door.ready)


class Door:
    """Where connections come in. ``enter`` takes one; False when none waits."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.open = False

    def ready(self, _mask: int) -> None:
        """One waits."""
        self.loop.knock(self)

    def enter(self) -> bool:
        """Take one in."""
        raise NotImplementedError

    def close(self) -> None:
        """Close this process' copy of the socket."""
        self.sock.close()


OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener(Door):
    """A listening socket."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        super().__init__(loop, sock)
        sock.setblocking(False)
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._said = False

    def enter(self) -> bool:
        """Accept one connection. Out of descriptors: pause for a while, and say so once."""
        loop = self.loop
        try:
            sock, peer = self.sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            loop.row.add(LISTENER_ERRORS_AT, 1)
            if error.errno in OUT_OF_DESCRIPTORS:
                if not self._said:
                    self._said = True
                    complain(
                        loop.site, "cannot accept connections for now: %s" % os.strerror(error.errno or 0)
                    )
                loop.pause_doors(ACCEPT_PAUSE_NS)
                return False
            return True  # accept(2): the network's error of a connection that is gone already
        loop.row.add(ACCEPTED_AT, 1)
        if self._is_tcp:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                local = sock.getsockname()
            except OSError:
                sock.close()
                return True
            loop.add(sock, (local[0], str(local[1])), (peer[0], str(peer[1])))
        else:
            loop.add(sock, ("", ""), ("", ""))
        return True
