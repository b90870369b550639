"""A worker's line to the router, and the connections that come through it: one request at a time.

The router (``djsup/router``) has looked at a request's head to know whose it is. It passes the connection's descriptor and
the head's length; the worker reads that much, reads the body by its framing and no byte more, answers, and gives the
connection back when it is idle. So what a client has sent behind its request stays in the kernel, and whose the next
request is, is for the router to say. The worker keeps its copy of the descriptor (parked), so that the next request
on that connection comes by number alone.

A line is a ``SOCK_SEQPACKET`` socketpair. A message is as many notes as there were to say at one time: one byte that
says what a note is, eight that name the connection, four with the length of what follows:

    from the router   N  a new connection, its descriptor with it, alone in its message. A description follows: two bytes
                         with its length, and JSON, local and peer address; then four bytes with how much of a head is to
                         be read, and what the router has read of that head already, which is nothing but for sockets
                         that cannot be looked into (``router/loop.py``)
                      R  the next request of a parked one: as N, without the description
                      D  forget it: close the copy if it is parked, and close it after its answer if it is not
                      T  as N, a connection that is to speak TLS: the worker keeps it, and answers nothing
                      M  the tally of this line (``tally.py``), its descriptor with it, alone in its message
    from the worker   H  it is in the worker's hands, from a router that is gone
                      S  all of those are said (it names no connection): from now on the worker takes requests
                      I  it is idle, and parked
                      G  as I, and the tally says so: for a router that waits for it
                      J  as I, and not parked
                      W  its request takes no thread of ours any more, or none yet: only the client is waited for
                      C  it is closed, or ends without the router
                      L  this worker leaves: pass it nothing more (it names no connection)

The two may be of different versions of one REVISION (``messages.py``): a note that is not known is passed over, and a
descriptor with it is closed; none comes from a worker. What is behind a note's known part is for those who know it, and so
are other fields of a description.

The line's end is the other's end. Connections live on while another process has a copy (``router/vault.py``): the
worker goes on with the requests that it has. Whoever is to end a connection for all must shut it down (shutdown(2)).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import struct
import time
from array import array
from collections import deque
from io import BytesIO
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Tuple

from djsup_worker.body import ChunkedBody, SizedBody
from djsup_worker.connection import BODY, GONE, HEAD, IDLE, READ_BYTES, RUNNING, Connection
from djsup_worker.limits import SECOND_NS
from djsup_worker.scoreboard import CONNECTIONS_AT, TAKEN_AT
from djsup_worker.tally import DONE, HEED, PLACES, open_words
from djsup_worker.wsgi import complain, describe

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.request import Fields, Head

Secure = Callable[[socket.socket, Tuple[str, str], Tuple[str, str], str], None]
"""Takes a connection in that is to speak TLS: its local and its peer's address, and the name that it asks for."""
NEW, RESUME, DROP, WHOLE, TALLY = b"NRDTM"
TAKES = (NEW, WHOLE)
HAS, SAID, IDLE_PARKED, IDLE_GONE, WAITS, CLOSED, LEAVES = b"H", b"S", b"I", b"J", b"W", b"C", b"L"
GIVEN = b"G"
NO_TALLY = memoryview(b"")
"""It has a place for nobody."""
NUMBER = struct.Struct("=Q")
LENGTH = struct.Struct("=H")
NOBODY = NUMBER.pack(0)
SIZE = struct.Struct("=I")
SIZE_AT = 1 + NUMBER.size
DATA_AT = SIZE_AT + SIZE.size
NOTHING = SIZE.pack(0)
HEAD_LENGTH = SIZE
MESSAGE_MAX_BYTES = 192 * 1024
"""The longest message: what a socket that nobody has configured takes at once (net.core.wmem_default) is more."""
PARKED_MAX = 256
"""The most descriptors that are kept for idle connections."""
PARTS_MAX = MESSAGE_MAX_BYTES // DATA_AT * 3
"""The parts of as many notes as fit into one message; a note of ours has three: kind, number, length."""
AGAIN_NS = SECOND_NS // 50
"""When a line is tried again that was full: its router is busy with something else, and there is no hurry."""
SAY_AFTER_NS = 300_000
"""What was done is told after so long, though there is more to do."""
PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT
_FDS = array("i")
_LINGER_NOT = struct.pack("ii", 0, 0)
_ROOM = socket.CMSG_SPACE(_FDS.itemsize)
_size_of = SIZE.unpack_from
_monotonic_ns = time.monotonic_ns


class Routed(Connection):
    """A connection that the router has lent to this worker for one request."""

    __slots__ = ("counted", "link", "number", "place", "told", "waits")

    link: Link
    number: bytes
    counted: int
    """The same, as the tally has it."""
    place: int
    """Its word in the tally; 0: it has none."""
    told: bool
    """Whether the router was told that it gets it back no more."""
    waits: bool
    """Whether the router was told that this request takes no thread."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        base: Dict[str, Any],
        peer_host: str,
        peer_port: str,
        now_ns: int,
    ) -> None:
        super().__init__(loop, sock, base, peer_host, peer_port, now_ns)
        # Not by O_NONBLOCK: another site's worker may have this connection, too, and can clear it.
        recv, send = sock.recv, sock.send
        self._recv = lambda size: recv(size, socket.MSG_DONTWAIT)
        self._send = lambda data: send(data, socket.MSG_DONTWAIT)

    def send_file(self, fd: int, offset: int, count: int) -> Optional[int]:
        """As ``Wire`` says."""
        os.set_blocking(self.fd, False)  # as above; sendfile(2) has no flag for it
        return super().send_file(fd, offset, count)

    def begin(self, length: int, early: bytes) -> None:
        """A request waits: so long is its head, and the router has read this of it."""
        hand = self.loop.poller
        self.waits = False
        self.since_ns = _monotonic_ns()
        try:
            data = self._recv(length)
        except OSError:
            data = b""
        if len(data) != length:
            self.close()  # they were there: the connection is broken
            return
        if early:
            data = early + data
        head = self.reader.known(data, self.base)
        if head is not None:
            self.bytes_in = 0
            self._serve(head, BytesIO())
            return
        self._buffer = data
        self._advance()
        if not hand.lost and self.phase == HEAD:
            self.close()  # the router took it for whole

    def _read_body(self) -> bytes:
        body = self._body
        if isinstance(body, SizedBody):
            return self._recv(min(body.left, body.appetite))
        assert body is not None
        # Nobody knows its end before it was read: it is looked at, and taken as far as it goes (``_take_no_more``).
        return self.sock.recv(body.appetite, PEEK)

    def _take_no_more(self, data: bytes, rest: Optional[bytes]) -> Optional[bytes]:
        """The next request is left where it is."""
        if isinstance(self._body, ChunkedBody):
            self._recv(len(data) - len(rest or b""))
        return rest if rest is None else b""

    def leave(self) -> bool:
        """It goes back to the router when its answer is out, and to no other worker."""
        return False

    def close(self) -> None:
        """Close it, and tell the router."""
        if self.phase != GONE:
            self._tell_closed()
            with contextlib.suppress(OSError):  # others have copies, and it is to end now
                self.sock.shutdown(socket.SHUT_RDWR)
            _linger_not(self.sock)
            super().close()

    def _await_body(self, head: Head, fields: Fields) -> bool:
        hand = self.loop.poller
        # As where a head is read with what is behind it: who has sent the body already is not asked to.
        with contextlib.suppress(OSError):
            if fields.chunked:
                self._buffer = self.sock.recv(READ_BYTES, PEEK)
            else:
                self._buffer = self._recv(min(fields.length, READ_BYTES))
        served = super()._await_body(head, fields)
        if not hand.lost and self.phase == BODY:
            self._tell_waits()
            self._want(select.EPOLLIN)
        return served

    def _answered(self, now_ns: int) -> bool:
        if self._final:
            self._finish()
            return False
        if self._mask:
            self._want(0)
        self.since_ns = now_ns
        self.phase = IDLE
        self.link.give_back(self)
        return False

    def _finish(self) -> None:
        self._tell_closed()
        if not self._linger:
            with contextlib.suppress(OSError):  # what is unread at the end would have it reset
                self._linger = self.sock.recv(1, PEEK) != b""
        super()._finish()

    def finish_alone(self) -> None:
        """The router does not know it: its answer is its last."""
        self._final = True

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

    def __init__(
        self, loop: Loop, sock: socket.socket, secure: Optional[Secure] = None, *, alone: bool = True
    ) -> None:
        """``secure`` takes connections in that are to speak TLS; None: this site speaks none.

        ``alone`` says that all routers before this one are gone. A line may tell of that later, if it was on its way to
        one that did not live to get it: the kernel closes what is in a closed socket's queue when it has time.
        """
        self._alone = alone
        self._secure = secure or _refuse
        self._loop = loop
        self._sock = sock
        self._parked: Dict[bytes, Routed] = {}
        self._tally = NO_TALLY
        self._view = memoryview(bytearray(MESSAGE_MAX_BYTES))
        self._into: List[memoryview] = [self._view]
        self._todo: Deque[Tuple[int, bytes, bytes, List[int]]] = deque()
        self._outbox: List[bytes] = []
        self._waits = False
        """Whether the poller is going to work."""
        self._is_full = False
        """Whether the line took no more, and is to be tried again."""
        self.alive = True
        """Whether the router is there, and takes connections back."""
        self.over = False
        """Whether nothing more comes."""
        self._leaving = False
        self._claimed = False
        """Whether it was said what we have from a router that is gone."""
        sock.setblocking(False)
        loop.links.append(self)
        loop.watch(sock.fileno(), select.EPOLLIN, self._heard)
        self.claim()

    def claim(self) -> None:
        """Say what we have in hand from routers that are gone, once everything is heard that they have said."""
        loop = self._loop
        if self._claimed or any(each.hung_up() for each in loop.links if each is not self):
            return  # such a line's end, which comes next, calls again
        self._claimed = True
        for connection in list(loop.connections.values()):
            if not isinstance(connection, Routed) or connection.link is self:
                continue
            if self._alone or connection.link.is_dead():
                connection.link = self
                connection.place = 0  # this router has another descriptor of it
                if connection.told:  # it reads its last answer
                    self.say(CLOSED, connection.number)
                    continue
                self.say(HAS, connection.number)
                if connection.waits:
                    self.say(WAITS, connection.number)
        self.say(SAID, NOBODY)
        if self._leaving:
            self.say(LEAVES, NOBODY)

    def hung_up(self) -> bool:
        """Whether the router has no end of this line any more; what it has said may still be there to be read."""
        if not self.alive:
            return False
        waiter = select.poll()
        waiter.register(self._sock, 0)
        return any(mask & select.POLLHUP for _fd, mask in waiter.poll(0))

    def is_dead(self) -> bool:
        """Whether its router is gone, and everything was heard."""
        return self.over and (not self.alive or self.hung_up())

    def leave(self) -> None:
        """Ask for nothing more; what is on the way is served, and then the router ends the line."""
        self._leaving = True
        if self._claimed:
            self.say(LEAVES, NOBODY)

    def close(self) -> None:
        """End the line from here."""
        self._leaving = False
        self._end()

    def say(self, kind: bytes, number: bytes) -> None:
        """Tell the router something, together with what else there will be to say in a moment."""
        if self.alive:
            self._outbox += (kind, number, NOTHING)
            self._see_to_it()

    def give_back(self, connection: Routed) -> None:
        """A connection is idle: it is the router's again, of this one or of the next."""
        loop = self._loop
        number = connection.number
        del loop.connections[connection.fd]
        loop.row.add(CONNECTIONS_AT, -1)
        if not self.over and len(self._parked) < PARKED_MAX:
            self._parked[number] = connection
            words, place = self._tally, connection.place
            if PLACES <= place < len(words) and not connection.waits and loop.departure is None:
                words[DONE] += 1
                words[place] = connection.counted
                if words[HEED]:
                    self.say(GIVEN, number)
                return
            self.say(IDLE_PARKED, number)
        else:
            self.say(IDLE_GONE, number)
            _let_go(connection)
        if loop.departure is not None:
            self._flush()
            if not self._is_full:
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
        if (
            data[0] == RESUME
            and not ancillary
            and not todo
            and not self._waits
            and DATA_AT + _size_of(data, SIZE_AT)[0] == size
        ):
            self._resume(data[1:SIZE_AT], data[DATA_AT:])  # that alone, as most messages are
            return
        fds = _descriptors(ancillary) if ancillary else []
        at = 0
        while at < size:
            begins = at + DATA_AT
            ends = begins + _size_of(data, at + SIZE_AT)[0]
            todo.append((data[at], data[at + 1 : at + SIZE_AT], data[begins:ends], fds))
            at = ends
        self._see_to_it()

    def _work(self) -> None:
        """Do what the router has asked for, and tell what was done. Ends in the middle when the role is lost."""
        hand = self._loop.poller
        todo = self._todo
        began_ns = _monotonic_ns()
        while todo:
            kind, number, data, fds = todo.popleft()
            if kind == RESUME:
                self._resume(number, data)
            elif kind in TAKES:
                self._take(number, data, fds, whole=kind == WHOLE)
            elif kind == DROP:
                self._forget(number)
            elif kind == TALLY:
                self._use_tally(fds)
            if fds:
                _close_all(fds)
            if hand.lost:
                return
            if todo and _monotonic_ns() - began_ns > SAY_AFTER_NS:
                self._flush()
        self._flush()
        self._waits = False

    def _flush(self) -> None:
        """Say what there is to say. What a full line does not take is said later: the router awaits each note."""
        outbox = self._outbox
        if self._is_full:
            return
        try:
            while outbox and self.alive:
                self._sock.send(b"".join(outbox[:PARTS_MAX]))
                del outbox[:PARTS_MAX]
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                self._is_full = True
                self._loop.at(_monotonic_ns() + AGAIN_NS, self._try_again)
                return
        outbox.clear()  # or it is gone: the line's end tells

    def _try_again(self) -> None:
        self._is_full = False
        self._flush()
        if self._loop.departure is not None and not self._is_full:
            self._loop.departure.one_less()

    def _use_tally(self, fds: List[int]) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):  # without one notes say everything
            self._tally = open_words(fds[0])

    def _forget(self, number: bytes) -> None:
        parked = self._parked.pop(number, None)
        if parked is not None:
            _let_go(parked)
            return
        for connection in self._loop.connections.values():
            if isinstance(connection, Routed) and connection.number == number:
                connection.finish_alone()

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
            length = HEAD_LENGTH.unpack_from(data)[0]
            connection.begin(length, data[HEAD_LENGTH.size :])
        except Exception as error:  # noqa: BLE001  # one connection's trouble is not the others'
            text = "a mistake in the worker itself; the connection was closed\n%s" % describe(error)
            complain(self._loop.site, text)
            if not hand.lost and connection.phase != RUNNING:
                connection.close()

    def _take(self, number: bytes, data: bytes, fds: List[int], *, whole: bool) -> None:
        """Take a new connection in."""
        try:
            begins = LENGTH.size + LENGTH.unpack_from(data)[0]
            note = json.loads(data[LENGTH.size : begins])
            local, peer = (_ends(note[key]) for key in ("local", "peer"))
            place = int(note.get("place", 0))
            sock = socket.socket(fileno=fds.pop(0))
        except (struct.error, ValueError, LookupError, TypeError):
            # No descriptor was free for it, or it is not described.
            self.say(CLOSED, number)
            return
        finally:
            _close_all(fds)
        self._loop.row.add(TAKEN_AT, 1)
        if whole:
            self._secure(sock, local, peer, str(note.get("name", "")))
            return
        connection = self._loop.lend(sock, local, peer, Routed)
        connection.link = self
        connection.number = number
        connection.counted = NUMBER.unpack(number)[0]
        connection.place = place
        connection.told = False
        self._begin(connection, data[begins:])

    def _end(self) -> None:
        """Nothing more comes. A router that was asked for that still takes back what is lent; it has what is parked."""
        loop = self._loop
        loop.unwatch(self._sock.fileno())
        self.over = True
        self._tally = NO_TALLY  # the other one costs a descriptor
        if not self._leaving:
            self.alive = False
            self._sock.close()
        for connection in self._parked.values():
            _let_go(connection)
        self._parked.clear()
        loop.links.remove(self)
        for link in list(loop.links):
            link.claim()
        if loop.departure is not None:
            loop.departure.one_less()


def _descriptors(ancillary: Any) -> List[int]:
    """Those that came with a message."""
    return [
        fd
        for level, kind, value in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for fd in array("i", value[: len(value) - len(value) % _FDS.itemsize])
    ]


def _close_all(fds: List[int]) -> None:
    """Close what nobody has taken, without a wait."""
    while fds:
        fd = fds.pop()
        try:
            sock = socket.socket(fileno=fd)
        except OSError:  # it is no socket
            os.close(fd)
        else:
            _linger_not(sock)
            sock.close()


def _ends(raw: Any) -> Tuple[str, str]:
    host, port = raw
    return str(host), str(port)


def _refuse(sock: socket.socket, _local: Tuple[str, str], _peer: Tuple[str, str], _name: str) -> None:
    sock.close()


def _let_go(connection: Routed) -> None:
    """Close our copy of a connection that is the router's."""
    connection.phase = GONE
    connection.told = True
    _linger_not(connection.sock)
    connection.sock.close()


def _linger_not(sock: socket.socket) -> None:
    """Have close(2) wait for nothing. Another site's worker that has had the connection may have said otherwise."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
