"""One HTTP connection: bytes in, requests to the application, bytes out.

A connection belongs to the thread that polls, except in the phase RUNNING: then the response has it,
in whatever thread that runs, and nobody else touches it. Reading heads is ``request``'s part, bodies
are ``body``'s, the application's call is ``wsgi``'s; when to look at a connection again, the ``loop``'s.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections import deque
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Callable, Deque, Dict, Optional, Tuple, Union

from djsup_worker.body import ChunkedBody, SizedBody
from djsup_worker.limits import BYTE_NS, RATE_MIN_BYTES_S, SECOND_NS
from djsup_worker.refusal import Refused, answer
from djsup_worker.request import TARGET_MAX_BYTES, keeps
from djsup_worker.sendqueue import untaken_bytes
from djsup_worker.wsgi import HIGH_WATER_BYTES, Response, Wire, complain

if TYPE_CHECKING:
    import socket

    from djsup_worker.body import Body
    from djsup_worker.crew import Hand
    from djsup_worker.loop import Loop
    from djsup_worker.request import Fields, Head

READ_BYTES = 8 * 1024
LOW_WATER_BYTES = 64 * 1024
"""A paused response goes on when less than this waits for the client."""
LINGER_NS = 2 * SECOND_NS
"""How long a refused client may go on sending, so that it gets to read why (RFC 9112, 9.6)."""

FRESH, IDLE, HEAD, BODY, LINGER, RUNNING, QUEUED, WRITING, LEAVING, GONE = range(10)
"""Phases: no byte yet; between requests; in a head; in a body; refused, and its last words unread; in the
application; with a next request in the buffer, which waits for its turn; waiting for the client to read; being
handed over; closed. Before RUNNING whatever comes is read."""

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
HANGUP = select.EPOLLHUP
"""Both directions are closed: the client reset the connection, and reads nothing more. A client that has only
ended its own direction (shutdown(2), SHUT_WR) still waits for its answer."""
EMPTY_LINES = re.compile(rb"(?:\r\n)+")
NOTHING: Tuple[()] = ()
_monotonic_ns = time.monotonic_ns


class Connection(Wire):
    """A client's connection. ``base`` is what the environ of each of its requests begins with."""

    __slots__ = (
        "_body",
        "_buffer",
        "_final",
        "_head",
        "_held",
        "_linger",
        "_mask",
        "_out",
        "_recv",
        "_send",
        "base",
        "broken",
        "bytes_in",
        "fd",
        "loop",
        "movable",
        "peer_host",
        "peer_port",
        "phase",
        "reader",
        "response",
        "since_ns",
        "site",
        "sock",
        "unsent",
    )

    counts = True
    """Whether what is asked on it is somebody's request, for the scoreboard."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        base: Dict[str, Any],
        peer_host: str,
        peer_port: str,
        now_ns: int,
    ) -> None:
        self.loop = loop
        self.site = loop.site
        self.sock = sock
        self.fd = sock.fileno()
        self.base = base
        self.peer_host = peer_host
        self.peer_port = peer_port
        self.reader = loop.trust.reader_for(peer_host)
        """Reads its heads, and believes what a peer like this one is believed."""
        self.phase = FRESH
        self.since_ns = now_ns
        """When the phase began, or its last progress was made."""
        self.movable = True
        """Whether it can be handed to another worker."""
        self.response: Optional[Response] = None
        self.broken = False
        self.unsent = 0
        self.bytes_in = 0
        self._recv: Callable[[int], bytes] = sock.recv
        self._send: Callable[[Union[bytes, memoryview]], int] = sock.send
        self._buffer = b""
        self._out: Union[Deque[Union[bytes, memoryview]], Tuple[()]] = NOTHING
        """What the kernel did not take; a deque only while there is some, for it is bigger than all else here."""
        self._held = 0
        """Bytes that the kernel held for the client when the last progress was seen."""
        self._head: Optional[Head] = None
        self._body: Optional[Body] = None
        self._final = False
        """Whether it is closed once everything is sent."""
        self._linger = False
        self._mask = READ

    def unwatched(self) -> None:
        """It is new, and nobody watches it yet."""
        self._mask = 0

    # --- what the loop tells it ---

    def ready(self, mask: int) -> None:
        """The descriptor can be read, or written, or is broken."""
        phase = self.phase
        if phase >= RUNNING or (mask & HANGUP and phase != LINGER):
            self._busy_or_gone(phase, mask)
            return
        try:
            data = self._recv(READ_BYTES) if phase != BODY else self._read_body()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif phase == LINGER:
            return
        elif phase == BODY:
            # Each byte buys a little time, so that one byte now and then does not hold a connection for ever.
            self.since_ns = min(_monotonic_ns(), self.since_ns + len(data) * BYTE_NS)
            self._feed_body(data)
        elif self._buffer:
            self._buffer += data
            self._advance()
        else:
            head = self.reader.known(data, self.base)
            if head is None:
                self._buffer = data
                self._advance()
            else:
                self.bytes_in = 0
                self._serve(head, BytesIO())

    def _busy_or_gone(self, phase: int, mask: int) -> None:
        """Something happens that is no bytes to be read now."""
        if phase == WRITING:
            self._writable()
        elif phase == RUNNING:
            if mask & HANGUP:
                self.broken = True  # its thread sees it before it sends more
            self._want(0)  # its thread reads on when the response is out
        elif mask & HANGUP:
            self.close()  # what it asked for and was not begun is for nobody

    def _read_body(self) -> bytes:
        assert self._body is not None
        return self._recv(self._body.appetite)

    def turn(self) -> None:
        """The request that waits in the buffer has its turn."""
        if self.phase == QUEUED:
            self.phase = IDLE
            self._advance()

    def expire(self) -> None:
        """The phase has lasted too long."""
        phase = self.phase
        if phase < LINGER:
            # What it waits for may have come, while nobody polled or this very moment.
            since_ns = self.since_ns
            self._final = self._final or phase == IDLE
            self.ready(READ)
            if self.phase != phase or self.since_ns - since_ns > SECOND_NS:
                return
        if phase in (HEAD, BODY):
            self._refuse(Refused(408, "the request did not arrive in time"), self._buffer)
        elif phase == WRITING:
            if self._client_took_some():
                self.since_ns = _monotonic_ns()
                self.loop.watch_phase(self)
                return
            self.broken = True
            if self.response is not None:
                self._go_on()
            else:
                self.close()
        elif phase != RUNNING:
            self.close()

    def came_back(self) -> None:
        """A thread without the polling role has ended its turn."""
        response = self.response
        assert response is not None
        if response.why_aside is not None:
            assert self.loop.crew is not None
            self.loop.crew.habits.seen(response.line, response.why_aside, _monotonic_ns() - response.began_ns)
            response.why_aside = None
        if self._settle(response):
            self._queue_next()

    def close(self) -> None:
        """Close it, whatever it was about."""
        if self.phase != GONE:
            self.phase = GONE
            if self.response is not None and self.loop.access is not None:
                self.loop.access.cut(self)
            if self._body is not None:
                self._body.spool.close()
            self.loop.forget(self, registered=bool(self._mask))
            self.sock.close()

    def leave(self) -> bool:
        """Stop watching it, so that it can be handed over; False when it is not idle, or cannot be."""
        if not self.movable:
            # Its next answer is its last, and says so; one that is on its way has promised another.
            self._final = self._final or self.phase not in (RUNNING, WRITING)
            return False
        if self.phase not in (IDLE, FRESH) or self._buffer or self._out:
            return False
        self._want(0)
        self.phase = LEAVING
        return True

    def left(self) -> None:
        """Another process has it."""
        self.phase = GONE
        self.loop.forget(self, registered=False)
        self.sock.close()

    def come_home(self) -> None:
        """Nobody took it over: serve it on."""
        self.phase = IDLE
        self.since_ns = _monotonic_ns()
        self._want(READ)
        self.loop.watch_phase(self)

    # --- requests ---

    def _queue_next(self) -> None:
        """One request was served: what is behind it in the buffer waits until all others had their turn."""
        if self._buffer:
            self.phase = QUEUED
            self.loop.queue(self)

    def _advance(self) -> None:
        """Serve the request at the buffer's beginning, if it is whole."""
        loop = self.loop
        while self._buffer and self.phase < RUNNING:
            data = self._buffer
            empty = EMPTY_LINES.match(data)
            if empty is not None:  # RFC 9112, 2.2: before a request they are ignored
                self._buffer = data[empty.end() :]
                continue
            end = data.find(b"\r\n\r\n") + 4
            try:
                if end < 4:  # noqa: PLR2004  # not found
                    self._look_at_part(data)
                    return
                if end == len(data):
                    self._buffer = b""
                else:
                    self._buffer = data[end:]
                    data = data[:end]
                if end > loop.limits.max_header_bytes:
                    raise _too_large(loop.limits.max_header_bytes)
                head = self.reader.read(data, self.base)
                fields = head[2]
                if fields.length or fields.chunked:
                    if self._await_body(head, fields):
                        self._queue_next()
                    return
            except Refused as refused:
                self._refuse(refused, data)
                return
            self.bytes_in = 0
            if self._serve(head, BytesIO()):
                self._queue_next()
            return

    def _look_at_part(self, data: bytes) -> None:
        """Refuse the beginning of a head as soon as it can be known that it will not be right."""
        if data == b"\r":  # of an empty line, perhaps: no request has begun
            return
        most = self.loop.limits.max_header_bytes
        line_end = data.find(b"\r\n")
        if (line_end < 0 and len(data) > TARGET_MAX_BYTES + 64) or line_end > TARGET_MAX_BYTES + 64:
            raise Refused(414, "the target is longer than %d bytes" % TARGET_MAX_BYTES)
        if len(data) > most:
            raise _too_large(most)
        if data.count(b"\n") != data.count(
            b"\r\n"
        ):  # RFC 9112, 2.2 allows it; request smuggling lives from it
            raise Refused(400, "a bare line feed")
        if self.phase != HEAD:
            self.phase = HEAD
            self.since_ns = _monotonic_ns()
            self.loop.watch_phase(self)

    def _await_body(self, head: Head, fields: Fields) -> bool:
        """Begin to read a body; True when it was there already and its request was served."""
        most = self.loop.limits.max_body_bytes
        if fields.length > most:
            raise Refused(413, "the body is longer than %d bytes" % most)
        rest, self._buffer = self._buffer, b""
        if 0 < fields.length <= len(rest) and fields.length <= READ_BYTES:
            self._buffer = rest[fields.length :]
            self.bytes_in = fields.length
            return self._serve(head, BytesIO(rest[: fields.length]))
        room = self.loop.room
        self._body = ChunkedBody(most, room) if fields.chunked else SizedBody(fields.length, room)
        self._head = head
        self.phase = BODY
        self.since_ns = _monotonic_ns()
        if rest:
            return self._feed(rest)
        if fields.expect:
            self.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.loop.watch_phase(self)
        return False

    def _feed_body(self, data: bytes) -> None:
        try:
            ended = self._feed(data)
        except Refused as refused:
            self._refuse(refused, b"")
            return
        if ended:
            self._queue_next()

    def _feed(self, data: bytes) -> bool:
        """Take bytes of the body; True when it is whole and its request was served."""
        body, head = self._body, self._head
        assert body is not None
        assert head is not None
        try:
            rest = self._take_no_more(data, body.feed(data))
            if rest is None:
                self.loop.watch_phase(self)
                return False
            spool = body.spool
            file = spool.finish()
        except OSError as error:
            raise self._no_room(error) from None
        self._buffer = rest
        self._head = None
        self.bytes_in = spool.size
        environ, _line, fields = head
        if fields.chunked:
            environ["CONTENT_LENGTH"] = str(spool.size)
        return self._serve(head, file)

    def _take_no_more(self, _data: bytes, rest: Optional[bytes]) -> Optional[bytes]:
        """Of these bytes of a body ``rest`` was too much; None: all were its own. Gives what of that is kept here."""
        return rest

    def _no_room(self, error: OSError) -> Refused:
        complain(self.loop.site, "a request's body cannot be kept in a temporary file: %s" % error)
        return Refused(503, "no room for the body")

    def _serve(self, head: Head, file: IO[bytes]) -> bool:
        """Run one request; whether the connection is ready for the next."""
        loop = self.loop
        environ, line, fields = head
        environ["wsgi.input"] = file
        environ["REMOTE_ADDR"] = self.peer_host
        environ["REMOTE_PORT"] = self.peer_port
        if fields.forwarded is not None:
            environ.update(fields.forwarded)
        began_ns = _monotonic_ns()
        if began_ns >= loop.date_until_ns:
            loop.renew_date(began_ns)
        hand = loop.poller
        keep = loop.stays and not self._final and keeps(line, fields)
        self.response = response = Response(self, environ, line, loop.date_line, began_ns, hand, keep)
        if loop.access is not None:
            loop.access.note(response, fields, self.peer_host)
        self.phase = RUNNING
        loop.row.begin(hand.index, began_ns, line.what)
        crew = loop.crew
        if crew is None:
            response.begin(loop.application)
            return self._settle(response, hand.index)
        habit = crew.habits.of(line) if crew.habits.known else None
        if habit is not None and crew.step_aside(hand, habit):
            response.begin(loop.application)
            response.why_aside = hand.why
            loop.row.rest(hand.index)
            loop.give_back(self)
            return False
        token = hand.token
        hand.since_ns = began_ns
        token.append(habit)
        if crew.resting:
            crew.wake_monitor()
        response.begin(loop.application)
        try:
            token.pop()
        except IndexError:
            hand.lost = True
            response.why_aside = hand.why
            loop.row.rest(hand.index)
            loop.give_back(self)
            return False
        return self._settle(response, hand.index)

    def _go_on(self) -> None:
        """Let a paused response have its next turn, in its own thread."""
        response = self.response
        assert response is not None
        loop = self.loop
        hand = response.hand
        self.phase = RUNNING
        if hand is not loop.poller:
            self._want(0)
            assert loop.crew is not None
            loop.crew.pass_to(hand, self)
            return
        if self._inline_turn(response, hand) and self._settle(response):
            self._queue_next()

    def _inline_turn(self, response: Response, hand: Hand) -> bool:
        """A turn in the thread that polls; whether it still does afterwards."""
        loop = self.loop
        crew = loop.crew
        now_ns = _monotonic_ns()
        loop.row.begin(hand.index, now_ns, response.line.what)
        if crew is None:
            response.go_on()
            loop.row.rest(hand.index)
            return True
        hand.since_ns = now_ns
        hand.token.append(None)
        if crew.resting:
            crew.wake_monitor()
        response.go_on()
        loop.row.rest(hand.index)
        try:
            hand.token.pop()
        except IndexError:
            hand.lost = True
            loop.give_back(self)
            return False
        return True

    def turn_elsewhere(self, hand: Hand) -> None:
        """A turn in a thread that does not poll."""
        response = self.response
        assert response is not None
        loop = self.loop
        loop.row.begin(hand.index, _monotonic_ns(), response.line.what)
        response.go_on()
        loop.row.rest(hand.index)
        loop.give_back(self)

    def _settle(self, response: Response, thread: int = -1) -> bool:
        """The response has ended its turn; whether the connection is ready for the next request.

        ``thread`` is the one that ran it, unless the scoreboard knows already that it rests.
        """
        loop = self.loop
        if not response.done:
            if thread >= 0:
                loop.row.rest(thread)
            self._await_writable()
            return False
        self.response = None
        now_ns = _monotonic_ns()
        took_ns = now_ns - response.began_ns
        if not self.counts:
            loop.row.rest(thread)
        elif loop.row.end(thread, response.status, took_ns, self.bytes_in, response.sent):
            loop.row.note(response.line.what, response.status, now_ns, took_ns)
        if self._body is not None:
            # Not left to the last reference: an application's exception may keep the environ for long.
            self._body.spool.close()
            self._body = None
        if loop.access is not None:
            loop.access.record(response, now_ns)
        if self.broken:
            self.close()
            return False
        if not response.keep:
            self._final = True
        if self._out:
            self._await_writable()
            return False
        return self._answered(now_ns)

    def _answered(self, now_ns: int) -> bool:
        """Everything is sent; whether the connection is ready for the next request."""
        if self._final:
            self._finish()
            return False
        if self._mask != READ:
            self._want(READ)
        self.since_ns = now_ns
        self.phase = IDLE
        departure = self.loop.departure
        if departure is not None:
            return not departure.answered(self)
        sharing = self.loop.sharing
        return sharing is None or now_ns < sharing.look_at_ns or not sharing.answered(self, now_ns)

    # --- endings ---

    def _refuse(self, refused: Refused, data: bytes) -> None:
        """Answer that the request, which begins with ``data`` if its body has not begun, is not served; close."""
        loop = self.loop
        now_ns = _monotonic_ns()
        if now_ns >= loop.date_until_ns:
            loop.renew_date(now_ns)
        if self._body is not None:
            self._body.spool.close()
            self._body = None
        is_head = data.startswith(b"HEAD ") if self._head is None else self._head[1].is_head
        said = answer(refused.status, refused.why, loop.date_line, body=not is_head)
        loop.row.end(-1, refused.status, 0, 0, len(said))
        if loop.access is not None:
            loop.access.refused(self, refused.status, self._head, data, said)
        self._head = None
        self._buffer = b""
        self._final = self._linger = True
        self.since_ns = now_ns
        self.transmit(said)
        if self._out and not self.broken:
            self._await_writable()
        else:
            self._finish()

    def _finish(self) -> None:
        """Everything is sent: close, but let a client that may be sending still read what it was told."""
        if self.broken or not (self._linger or self._buffer):
            self.close()
            return
        try:
            self.sock.shutdown(1)
        except OSError:
            self.close()
            return
        self._buffer = b""
        self.phase = LINGER
        self.since_ns = _monotonic_ns()
        self._want(READ)
        self.loop.watch_phase(self)

    # --- writing ---

    def transmit(self, data: bytes) -> None:
        """Send, and keep what the kernel does not take."""
        if self.broken:
            return
        if self._out:
            self._out.append(data)
            self.unsent += len(data)
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._break()
            return
        if sent != len(data):
            self._out = deque((memoryview(data)[sent:],))
            self.unsent += len(data) - sent

    def send_file(self, fd: int, offset: int, count: int) -> Optional[int]:
        """As ``Wire`` says."""
        try:
            return os.sendfile(self.fd, fd, offset, count)
        except BlockingIOError:
            return None
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self._break()
            return None

    def wait_writable(self) -> None:
        """As ``Wire`` says; takes no longer than the write timeout without progress."""
        waiter = select.poll()
        waiter.register(self.fd, select.POLLOUT)
        while self.unsent > LOW_WATER_BYTES and not self.broken:
            self._held = untaken_bytes(self.fd)
            if waiter.poll(self.loop.limits.write_timeout_s * 1000):
                self._flush()
            elif not self._client_took_some():
                self._break()

    def _break(self) -> None:
        self.broken = True
        self._out = NOTHING
        self.unsent = 0

    def _flush(self) -> None:
        """Send what waits, as much as the kernel takes."""
        out = self._out
        while out:
            data = out[0]
            try:
                sent = self._send(data)
            except BlockingIOError:
                return
            except OSError:
                self._break()
                return
            self.unsent -= sent
            if sent == len(data):
                out.popleft()
            else:
                out[0] = memoryview(data)[sent:]
        self._out = NOTHING

    def _await_writable(self) -> None:
        self.phase = WRITING
        self.since_ns = _monotonic_ns()
        self._held = untaken_bytes(self.fd)
        self._want(WRITE)
        self.loop.watch_phase(self)

    def _writable(self) -> None:
        self._flush()
        if self.broken:
            if self.response is not None:
                self._go_on()  # its close() is due, in its own thread
            else:
                self.close()
            return
        self.since_ns = now_ns = _monotonic_ns()
        if self.response is not None and self.unsent <= LOW_WATER_BYTES:
            self._go_on()
        elif self._out or self.response is not None:
            self._held = untaken_bytes(self.fd)
        elif self._answered(now_ns):
            self._queue_next()

    def _client_took_some(self) -> bool:
        """Whether the client reads, though so slowly that the kernel has not asked for more yet."""
        held = untaken_bytes(self.fd)
        if self._held - held < RATE_MIN_BYTES_S * self.loop.limits.write_timeout_s:
            return False
        self._held = held
        return True

    def _want(self, mask: int) -> None:
        """Have the loop watch for this; 0: not at all."""
        if mask != self._mask:
            self.loop.rewatch(self.fd, self._mask, mask, self.ready)
            self._mask = mask


def _too_large(most: int) -> Refused:
    return Refused(431, "a header section of more than %d bytes" % most)


assert LOW_WATER_BYTES < HIGH_WATER_BYTES
