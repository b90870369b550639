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
from threading import get_ident
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Tuple, Type, TypeVar

from djsup_worker.balance import LOOK_AGAIN_NS
from djsup_worker.body import Room
from djsup_worker.connection import (
    BODY,
    FRESH,
    GONE,
    HEAD,
    IDLE,
    LEAVING,
    LINGER,
    LINGER_NS,
    QUEUED,
    RUNNING,
    WRITING,
    Connection,
)  # fmt: skip
from djsup_worker.crew import Crew, Hand
from djsup_worker.limits import SECOND_NS, Limits
from djsup_worker.preface import Preface
from djsup_worker.scoreboard import (
    ACCEPTED_AT,
    CONNECTIONS_AT,
    LISTENER_ERRORS_AT,
    RowWriter,
)  # fmt: skip
from djsup_worker.timeouts import Timeouts
from djsup_worker.trust import Trust
from djsup_worker.wsgi import base_environ, complain, describe

if TYPE_CHECKING:
    from djsup_worker.access import Access
    from djsup_worker.application import Application
    from djsup_worker.balance import Balance
    from djsup_worker.departure import Departure
    from djsup_worker.link import Link
    from djsup_worker.preface import Admit
    from djsup_worker.sharing import Sharing

EVENTS_MAX = 64
"""Events taken with one call of epoll_wait(2)."""
ACCEPT_PAUSE_NS = SECOND_NS // 10
DESCRIPTORS_KEPT = 64
"""Descriptors left to the application when connections have taken the others."""
BASES_KEPT = 256
ACCEPT_LAST_MAX = 1024
ACCEPT_MAX = 16
"""The most that one door lets in at a time."""
SWEEP_NS = SECOND_NS // 1000
"""A sweep that takes longer goes on after the events that have come meanwhile."""
SWEEP_LOOKS = 64
"""Connections that a sweep looks at between two looks at the clock."""
EVICT_AGE_NS = SECOND_NS
"""Where there is no room for new connections, those that say nothing for this long make it."""
EVICT_SHARE = 32
"""The part of all connections that makes room at a time."""
NEVER_NS = 1 << 62

_monotonic_ns = time.monotonic_ns
Lent = TypeVar("Lent", bound=Connection)


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
        trust: Optional[Trust] = None,
    ) -> None:
        self.site = site
        self.application = application
        self.limits = limits
        self.row = row
        self.trust = trust or Trust(site)
        self.crew = Crew(threads) if threads > 1 else None
        self.poller = self.crew.first if self.crew else Hand(0)
        self.connections: Dict[int, Connection] = {}
        self.departure: Optional[Departure] = None
        self.links: List[Link] = []
        """Lines to routers; there is more than one while one router takes over from another."""
        self.after_events: List[Callable[[], None]] = []
        """What the poller is to do when the events at hand are done. Called again by the next poller, if the role is
        lost meanwhile."""
        self.balance: Optional[Balance] = None
        """Says when others should take connections in; None: there are no others."""
        self.sharing: Optional[Sharing] = None
        """What passes connections on to others that have fewer; None: not before this worker serves."""
        self.access: Optional[Access] = None
        """What writes requests down and gives them ids; None: nobody wants it."""
        self.stays = True
        """Whether answers may promise to keep their connection open."""
        self.ended = False
        self.date_line = b""
        self.date_until_ns = 0
        self.on_wake: Dict[int, Callable[[], None]] = {}
        """What to do for a signal's number written to the wake-up socket."""
        self.poller.ident = get_ident()
        self.timeouts = Timeouts(site, row, self._here)
        self._base = base_environ("http", multithread=threads > 1, errors=errors)
        self._base["djsup.extend_timeout"] = self.timeouts.extend
        self._bases: Dict[Tuple[str, ...], Dict[str, Any]] = {}
        self._epoll = select.epoll()
        self._ready: Dict[int, Callable[[int], None]] = {}
        self._doors: List[Door] = []
        self._knocked: List[Door] = []
        self._returned: Deque[Connection] = deque()
        self._queued: Deque[Connection] = deque()
        self.room = Room(self._may_open)
        self._timers: List[Tuple[int, int, Callable[[], None]]] = []
        self._timer_names = count()
        self._sweep_at_ns = NEVER_NS
        self._unswept: List[Connection] = []
        self._phase_limits: Dict[int, int] = {}
        self._full = False
        self._looks_for_room = False
        self.new_limits(limits)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.watch(self._wake_in.fileno(), select.EPOLLIN, self._woken)

    # --- running ---

    def run(self) -> None:
        """Poll until ``end``."""
        if self.crew is None:
            self.poller.ident = get_ident()
            self.row.name_thread(0, self.poller.ident)
            self.poll(self.poller)
        else:
            self.crew.run(self)

    def _here(self) -> Optional[Hand]:
        """The hand whose thread asks; a lone one is the thread of whoever made the loop."""
        if self.crew is not None:
            return self.crew.here()
        return self.poller if self.poller.ident == get_ident() else None

    def end(self) -> None:
        """Make ``run`` return, in the main thread, as soon as that is free."""
        self.ended = True
        if self.crew is not None:
            self.crew.stop()

    def close(self) -> None:
        """Close what is open, once ``run`` has returned. A worker need not: it ends."""
        for connection in list(self.connections.values()):
            connection.close()
        for link in list(self.links):
            link.close()
        self.timeouts.close()
        self._epoll.close()
        self._wake_in.close()
        self._wake_out.close()

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
        if self.after_events and not self._finish_events(hand):
            return
        while self._do_what_is_due(hand):
            hurry = self._queued or self.after_events
            events = poll(0 if hurry else self._timeout_s(), EVENTS_MAX)
            for fd, mask in events:
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
            if self.after_events and not self._finish_events(hand):
                return
            if self._knocked:
                # Last, so that no connection is taken in by a worker that then begins a long request, and
                # so that no descriptor of this batch means two connections.
                self._let_in(hand, min(len(events) - 1, ACCEPT_MAX))
            if self._queued and not hand.lost:
                self._take_turns(hand)

    def _finish_events(self, hand: Hand) -> bool:
        """Do what was left for the end of the events at hand; whether this thread is to go on polling."""
        waiting = self.after_events
        while waiting and not hand.lost:
            waiting[0]()
            if not hand.lost:
                del waiting[0]
        return not hand.lost

    def _let_in(self, hand: Hand, most: int = 1) -> None:
        """Let some in through each door at which somebody waits, and one at least.

        As many as there were other events: so who comes waits no longer than who is there, and a worker with
        little to do takes one at a time, and leaves the others to workers with as little.
        """
        while self._knocked and not hand.lost:
            door = self._knocked.pop()
            left = max(most, door.most)
            while door.open and door.enter():
                left -= 1
                if self._stand_back(door) or left < 1:
                    break

    def _stand_back(self, door: Door) -> bool:
        """Whether it is the turn of other workers to let somebody in; the doors are closed for a moment then."""
        balance = self.balance
        pause_ns = balance.pause_ns(door.look_again_ns) if balance is not None and not self._full else 0
        if pause_ns:
            self.pause_doors(pause_ns)
        return pause_ns > 0

    def queue(self, connection: Connection) -> None:
        """Give a connection that has read more than one request its next turn after all others had theirs."""
        self._queued.append(connection)

    def _take_turns(self, hand: Hand) -> None:
        queued = self._queued
        for _ in range(len(queued)):
            connection = queued.popleft()
            try:
                connection.turn()
            except Exception as error:  # noqa: BLE001  # as in poll
                self._trouble(connection.fd, error)
            if hand.lost:
                return

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
        for number in set(numbers):
            if number in self.on_wake:
                self.on_wake[number]()
        # Afterwards: these may cost this thread the polling role, and all of that is the poller's.
        returned = self._returned
        hand = self.poller
        while returned and not hand.lost:
            connection = returned.popleft()
            try:
                connection.came_back()
            except Exception as error:  # noqa: BLE001  # as in poll
                self._trouble(connection.fd, error)
        if returned:
            self.wake()

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

    def add(
        self,
        sock: socket.socket,
        local: Tuple[str, str],
        peer: Tuple[str, str],
        kind: Type[Connection] = Connection,
        scheme: str = "http",
    ) -> Connection:
        """Serve a connection. ``local`` and ``peer`` are host and port; empty strings for a Unix socket."""
        sock.setblocking(False)
        now_ns = _monotonic_ns()
        return self._watched(kind(self, sock, self._base_for(local, scheme), peer[0], peer[1], now_ns))

    def lend(
        self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str], kind: Type[Lent]
    ) -> Lent:
        """Have a connection that is another's, and is watched only while something of its request is missing."""
        sock.setblocking(False)
        connection = kind(self, sock, self._base_for(local, "http"), peer[0], peer[1], _monotonic_ns())
        connection.unwatched()
        self.connections[connection.fd] = connection
        self.row.add(CONNECTIONS_AT, 1)
        return connection

    def add_proxied(
        self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str], admit: Admit
    ) -> None:
        """Await the PROXY header of a connection, then serve it as ``admit`` does."""
        sock.setblocking(False)
        base = self._base_for(local, "http")
        self._watched(Preface(self, sock, base, local, peer, _monotonic_ns(), admit))

    def _watched(self, connection: Connection) -> Connection:
        self.connections[connection.fd] = connection
        self.watch(connection.fd, select.EPOLLIN, connection.ready)
        self.row.add(CONNECTIONS_AT, 1)
        self.watch_phase(connection)
        if not self._may_open():
            self.pause_doors(None)
            self._full = True
            self._look_for_room()
        return connection

    def forget(self, connection: Connection, *, registered: bool) -> None:
        """A connection ends here."""
        if self.connections.pop(connection.fd, None) is None:
            return
        if registered:
            self.unwatch(connection.fd)
        self.row.add(CONNECTIONS_AT, -1)
        if self._full and self._may_open():
            self._full = False
            self.open_doors()
        if self.departure is not None:
            self.departure.one_less()

    def release(self, connection: Connection) -> None:
        """A connection is going to be served by another object, which is added next."""
        connection.phase = GONE
        del self.connections[connection.fd]
        self.unwatch(connection.fd)
        self.row.add(CONNECTIONS_AT, -1)

    def _may_open(self) -> bool:
        """Whether there is a descriptor for another connection, or for the file of a body."""
        most = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_KEPT)
        return len(self.connections) + self.room.files < most

    def _look_for_room(self) -> None:
        if not self._looks_for_room:
            self._looks_for_room = True
            self.at(_monotonic_ns() + SECOND_NS // 10, self._make_room)

    def _make_room(self) -> None:
        """While there is no room for new connections, close some that have said nothing for longest."""
        self._looks_for_room = False
        if self._full and self._may_open():  # a body's file was closed
            self._full = False
            self.open_doors()
        if not self._full:
            return
        self._look_for_room()
        before_ns = _monotonic_ns() - EVICT_AGE_NS
        silent = [
            each
            for each in self.connections.values()
            if each.phase in (IDLE, FRESH) and each.since_ns < before_ns
        ]
        silent.sort(key=lambda each: each.since_ns)
        hand = self.poller
        for connection in silent[: max(1, len(self.connections) // EVICT_SHARE)]:
            self._expire(connection)
            if hand.lost:
                return

    def _base_for(self, local: Tuple[str, str], scheme: str) -> Dict[str, Any]:
        key = (*local, scheme)
        base = self._bases.get(key)
        if base is None:
            base = dict(self._base, SERVER_NAME=local[0] or "localhost", SERVER_PORT=local[1] or "80")
            if scheme == "https":
                base.update({"wsgi.url_scheme": scheme, "HTTPS": "on", "SERVER_PORT": local[1] or "443"})
            if len(self._bases) < BASES_KEPT:
                self._bases[key] = base
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
        self.timeouts.new_limits(limits)
        seconds = {
            FRESH: limits.header_timeout_s,
            IDLE: limits.keepalive_s,
            HEAD: limits.header_timeout_s,
            BODY: limits.body_timeout_s,
            WRITING: limits.write_timeout_s,
        }
        self._phase_limits = {phase: int(each * SECOND_NS) for phase, each in seconds.items()}
        self._phase_limits[LINGER] = LINGER_NS
        self._phase_limits.update(dict.fromkeys((RUNNING, QUEUED, LEAVING, GONE), NEVER_NS))
        self._sweep_anew()

    def shorten_idle(self, most_s: float) -> None:
        """Close idle and fresh connections after this time at the latest."""
        for phase in (FRESH, IDLE):
            self._phase_limits[phase] = min(self._phase_limits[phase], int(most_s * SECOND_NS))
        self._sweep_anew()

    def _sweep_anew(self) -> None:
        self._unswept.clear()
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
        if self._unswept:
            return 0
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
                if self._unswept:
                    break
            if hand.lost:
                break
            at_ns = self._next_ns()
        return not (hand.lost or self.ended)

    def _sweep(self, hand: Hand) -> None:
        """Expire every connection whose phase has lasted too long. At most one sweep a second, in parts."""
        now_ns = _monotonic_ns()
        phase_limits = self._phase_limits
        next_ns = NEVER_NS
        unswept = self._unswept
        if not unswept:
            self._sweep_at_ns = NEVER_NS
            unswept.extend(self.connections.values())
        while unswept:
            connection = unswept.pop()
            at_ns = connection.since_ns + phase_limits[connection.phase]
            if at_ns > now_ns:
                next_ns = min(next_ns, at_ns)
            else:
                self._expire(connection)
            if hand.lost or (len(unswept) % SWEEP_LOOKS == 0 and _monotonic_ns() - now_ns > SWEEP_NS):
                break
        next_ns = max(next_ns, now_ns + SECOND_NS) if next_ns < NEVER_NS else next_ns
        self._sweep_at_ns = min(self._sweep_at_ns, next_ns)

    def _expire(self, connection: Connection) -> None:
        try:
            connection.expire()
        except Exception as error:  # noqa: BLE001  # as in poll
            self._trouble(connection.fd, error)

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

    most = 1
    """How many may come in at a time, whatever else there is to do."""
    look_again_ns = LOOK_AGAIN_NS
    """How old what is known of the other workers may be."""

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


ANY_HOST = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound to
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener(Door):
    """A listening socket."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        super().__init__(loop, sock)
        sock.setblocking(False)
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._local: Optional[Tuple[str, str]] = ("", "")
        """The local address of every connection; None: each has its own."""
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Linux: connections inherit it
            host, port = sock.getsockname()[:2]
            self._local = None if host in ANY_HOST else (host, str(port))
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
        local = self._local
        if local is None:
            try:
                name = sock.getsockname()
            except OSError:
                sock.close()
                return True
            local = (name[0], str(name[1]))
        peer_ends = (peer[0], str(peer[1])) if self._is_tcp else ("", "")
        if loop.trust.expects_preface(peer_ends[0]):
            loop.add_proxied(sock, local, peer_ends, self.admit)
        else:
            self.admit(sock, local, peer_ends)
        return True

    def admit(
        self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str]
    ) -> Optional[Connection]:
        """Serve a connection that was accepted; None: it is gone already."""
        return self.loop.add(sock, local, peer)
