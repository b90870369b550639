"""A worker's line to the router, and the connections that come through it: one request at a time.

The router (``djsup/router``) has read a request's head to know whose it is. It passes what it has read, and the
connection's descriptor; the worker reads on, answers, and gives the connection back when it is idle. It keeps its copy
of the descriptor then (parked), so that the next request on that connection comes by number alone. What a client has
sent behind its request goes back too: whose the next request is, is for the router to say.

A line is a ``SOCK_SEQPACKET`` socketpair. A message is as many notes as there were to say at one time: one byte that
says what a note is, eight that name the connection, four with the length of what follows, which is the client's:

    from the router   N  a new connection, its descriptor with it, alone in its message: before the client's bytes are
                         two with the length of a description, and that: JSON, local and peer address
                      R  the next request of a parked one
                      D  forget a parked one
                      T  as N, a connection that is to speak TLS: the worker keeps it, and answers nothing
    from the worker   I  it is idle, and parked; the client's bytes that were read too far follow
                      J  as I, and not parked
                      W  its request takes no thread of ours any more, or none yet: only the client is waited for
                      C  it is closed, or ends without the router
                      L  this worker leaves: pass it nothing more (it names no connection)

The line's end is the other's end.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time
from array import array
from collections import deque
from io import BytesIO
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Tuple

from djsup_worker.connection import BODY, GONE, HEAD, IDLE, RUNNING, Connection
from djsup_worker.scoreboard import CONNECTIONS_AT, TAKEN_AT
from djsup_worker.wsgi import complain, describe

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.request import Fields, Head

Secure = Callable[[socket.socket, Tuple[str, str], Tuple[str, str], str], None]
"""Takes a connection in that is to speak TLS: its local and its peer's address, and the name that it asks for."""
NEW, RESUME, DROP, WHOLE = b"NRDT"
IDLE_PARKED, IDLE_GONE, WAITS, CLOSED, LEAVES = b"I", b"J", b"W", b"C", b"L"
NUMBER = struct.Struct("=Q")
LENGTH = struct.Struct("=H")
NOBODY = NUMBER.pack(0)
SIZE = struct.Struct("=I")
SIZE_AT = 1 + NUMBER.size
DATA_AT = SIZE_AT + SIZE.size
NOTHING = SIZE.pack(0)
MESSAGE_MAX_BYTES = 192 * 1024
"""The longest message: what a socket that nobody has configured takes at once (net.core.wmem_default) is more."""
PARKED_MAX = 256
"""The most descriptors that are kept for idle connections."""
SAY_AFTER_NS = 300_000
"""What was done is told after so long, though there is more to do."""
_FDS = array("i")
_ROOM = socket.CMSG_SPACE(_FDS.itemsize)
_size_of = SIZE.unpack_from
_monotonic_ns = time.monotonic_ns


class Routed(Connection):
    """A connection that the router has lent to this worker for one request."""

    __slots__ = ("link", "number", "told", "waits")

    link: Link
    number: bytes
    told: bool
    """Whether the router was told that it gets it back no more."""
    waits: bool
    """Whether the router was told that this request takes no thread."""

    def begin(self, data: bytes) -> None:
        """The router has read this of a request, and its whole head is in it."""
        hand = self.loop.poller
        self.waits = False
        self.since_ns = _monotonic_ns()
        head = self.reader.known(data, self.base)
        if head is not None:
            self.bytes_in = 0
            self._serve(head, BytesIO())
            return
        self._buffer = data
        self._advance()
        if not hand.lost and self.phase == HEAD:
            self._want(select.EPOLLIN)

    def leave(self) -> bool:
        """It goes back to the router when its answer is out, and to no other worker."""
        return False

    def close(self) -> None:
        """Close it, and tell the router."""
        if self.phase != GONE:
            self._tell_closed()
            super().close()

    def _await_body(self, head: Head, fields: Fields) -> bool:
        hand = self.loop.poller
        served = super()._await_body(head, fields)
        if not hand.lost and self.phase == BODY:
            self._tell_waits()
            self._want(select.EPOLLIN)
        return served

    def _answered(self, now_ns: int) -> bool:
        if self._final or not self.link.alive:
            self._finish()
            return False
        rest, self._buffer = self._buffer, b""
        if self._mask:
            self._want(0)
        self.since_ns = now_ns
        self.phase = IDLE
        self.link.give_back(self, rest)
        return False

    def _finish(self) -> None:
        self._tell_closed()
        super()._finish()

    def _await_writable(self) -> None:
        self._tell_waits()
        super()._await_writable()

    def _tell_waits(self) -> None:
        if not self.waits and not self.told:
            self.waits = True
            self.link.say(WAITS, self.number)

    def _tell_closed(self) -> None:
        if not self.told:
            self.told = True
            self.link.say(CLOSED, self.number)


class Link:
    """The line to one router."""

    def __init__(self, loop: Loop, sock: socket.socket, secure: Optional[Secure] = None) -> None:
        """``secure`` takes connections in that are to speak TLS; None: this site speaks none."""
        self._secure = secure or _refuse
        self._loop = loop
        self._sock = sock
        self._parked: Dict[bytes, Routed] = {}
        self._view = memoryview(bytearray(MESSAGE_MAX_BYTES))
        self._into: List[memoryview] = [self._view]
        self._todo: Deque[Tuple[int, bytes, bytes, Any]] = deque()
        self._outbox: List[bytes] = []
        self._waits = False
        """Whether the poller is going to work."""
        self.alive = True
        """Whether the router is there, and takes connections back."""
        self.over = False
        """Whether nothing more comes."""
        self._leaving = False
        sock.setblocking(False)
        loop.links.append(self)
        loop.watch(sock.fileno(), select.EPOLLIN, self._heard)

    def leave(self) -> None:
        """Ask for nothing more; what is on the way is served, and then the router ends the line."""
        self._leaving = True
        self.say(LEAVES, NOBODY)

    def close(self) -> None:
        """End the line from here."""
        self._leaving = False
        self._end()

    def say(self, kind: bytes, number: bytes, rest: bytes = b"") -> None:
        """Tell the router something, together with what else there will be to say in a moment."""
        if self.alive:
            self._outbox += (kind, number, SIZE.pack(len(rest)) if rest else NOTHING, rest)
            self._see_to_it()

    def give_back(self, connection: Routed, rest: bytes) -> None:
        """A connection is idle: it is the router's again."""
        loop = self._loop
        number = connection.number
        del loop.connections[connection.fd]
        loop.row.add(CONNECTIONS_AT, -1)
        if not self.over and len(self._parked) < PARKED_MAX:
            self._parked[number] = connection
            self.say(IDLE_PARKED, number, rest)
        else:
            self.say(IDLE_GONE, number, rest)
            _let_go(connection)
        if loop.departure is not None:
            self._flush()
            loop.departure.one_less()

    def _see_to_it(self) -> None:
        """Have the poller, whoever that is then, work when the events at hand are done."""
        if not self._waits:
            self._waits = True
            self._loop.after_events.append(self._work)

    def _heard(self, _mask: int) -> None:
        view = self._view
        try:
            size, ancillary, _flags, _address = self._sock.recvmsg_into(
                self._into, _ROOM, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, ConnectionResetError):
            return  # reset: what was sent before that is still to be read (unix(7))
        except OSError:
            size, ancillary = 0, []
        if not size:
            self._end()
            return
        data = bytes(view[:size])
        todo = self._todo
        at = 0
        while at < size:
            begins = at + DATA_AT
            ends = begins + _size_of(data, at + SIZE_AT)[0]
            todo.append((data[at], data[at + 1 : at + SIZE_AT], data[begins:ends], ancillary))
            at = ends
        self._see_to_it()

    def _work(self) -> None:
        """Do what the router has asked for, and tell what was done. Ends in the middle when the role is lost."""
        hand = self._loop.poller
        todo = self._todo
        began_ns = _monotonic_ns()
        while todo:
            kind, number, data, ancillary = todo.popleft()
            if kind == RESUME:
                self._resume(number, data)
            elif kind in (NEW, WHOLE):
                self._take(number, data, ancillary, whole=kind == WHOLE)
            elif kind == DROP:
                parked = self._parked.pop(number, None)
                if parked is not None:
                    _let_go(parked)
            if hand.lost:
                return
            if todo and _monotonic_ns() - began_ns > SAY_AFTER_NS:
                self._flush()
        self._flush()
        self._waits = False

    def _flush(self) -> None:
        """It awaits an answer to each request, and few of them: there is room."""
        if self._outbox and self.alive:
            with contextlib.suppress(OSError):  # it is gone: the line's end tells
                self._sock.send(b"".join(self._outbox))
        self._outbox.clear()

    def _resume(self, number: bytes, data: bytes) -> None:
        connection = self._parked.pop(number, None)
        if connection is None:
            self.say(CLOSED, number)
            return
        loop = self._loop
        loop.connections[connection.fd] = connection
        loop.row.add(CONNECTIONS_AT, 1)
        self._begin(connection, data)

    def _begin(self, connection: Routed, data: bytes) -> None:
        hand = self._loop.poller
        try:
            connection.begin(data)
        except Exception as error:  # noqa: BLE001  # one connection's trouble is not the others'
            text = "a mistake in the worker itself; the connection was closed\n%s" % describe(error)
            complain(self._loop.site, text)
            if not hand.lost and connection.phase != RUNNING:
                connection.close()

    def _take(self, number: bytes, data: bytes, ancillary: Any, *, whole: bool) -> None:
        socks = [
            socket.socket(fileno=fd)
            for level, kind, value in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for fd in array("i", value[: len(value) - len(value) % _FDS.itemsize])
        ]
        if len(socks) != 1:  # no descriptor was free for it
            for sock in socks:
                sock.close()
            self.say(CLOSED, number)
            return
        begins = LENGTH.size + LENGTH.unpack_from(data)[0]
        note = json.loads(data[LENGTH.size : begins])
        local, peer = (_ends(note[key]) for key in ("local", "peer"))
        self._loop.row.add(TAKEN_AT, 1)
        if whole:
            self._secure(socks[0], local, peer, str(note["name"]))
            return
        connection = self._loop.lend(socks[0], local, peer, Routed)
        connection.link = self
        connection.number = number
        connection.told = False
        self._begin(connection, data[begins:])

    def _end(self) -> None:
        """Nothing more comes. A router that was asked for that still takes back what is lent; it has what is parked."""
        loop = self._loop
        loop.unwatch(self._sock.fileno())
        self.over = True
        if not self._leaving:
            self.alive = False
            self._sock.close()
        for connection in self._parked.values():
            _let_go(connection)
        self._parked.clear()
        loop.links.remove(self)
        if loop.departure is not None:
            loop.departure.one_less()


def _ends(raw: Any) -> Tuple[str, str]:
    host, port = raw
    return str(host), str(port)


def _refuse(sock: socket.socket, _local: Tuple[str, str], _peer: Tuple[str, str], _name: str) -> None:
    sock.close()


def _let_go(connection: Routed) -> None:
    """Close our copy of a connection that the router has."""
    connection.phase = GONE
    connection.told = True
    connection.sock.close()
