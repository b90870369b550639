"""A worker's loop and connections in this process, driven one batch of events at a time.

Everything is real but the process around it: sockets, epoll, the connection, the reader of heads. So a test
decides which bytes are there when the worker looks, and thousands of connections take a second.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import io
import os
import re
import socket
import termios
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from djsup_worker import scoreboard
from djsup_worker.connection import GONE, Connection
from djsup_worker.limits import Limits
from djsup_worker.loop import Loop
from djsup_worker.trust import Trust

TURN = 1
"""What is written to the wake-up socket to end a batch."""
BATCHES_MAX = 2000
"""More for one connection is a hang."""

REFUSAL = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\nContent-Type: text/plain; charset=utf-8\r\n")
PEER = ("192.0.2.9", "4711")
LOCAL = ("198.51.100.1", "80")


@dataclass
class Reading:
    """What came of the bytes of one connection."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    """The environ of each request, its body under ``body``."""
    sent: bytes = b""
    """All that the client was sent."""
    closed: bool = False
    """Whether the worker closed the connection by itself."""

    def framing(self) -> list[tuple[str, str, bytes]]:
        return [(each["REQUEST_METHOD"], each["RAW_URI"], each["body"]) for each in self.requests]

    def refusal(self) -> int:
        """The status of the worker's own answer, which comes last; 0: none."""
        found = REFUSAL.findall(self.sent)
        return int(found[-1]) if found else 0


class InProcess:
    """One loop; each of its connections has a peer and an end of its own."""

    def __init__(self, *, trust: Trust | None = None, limits: Limits | None = None) -> None:
        self.memory = os.memfd_create("scoreboard")
        os.ftruncate(self.memory, scoreboard.SIZE_BYTES)
        self.words = scoreboard.open_words(self.memory)
        self.errors = io.StringIO()
        self.seen: list[dict[str, Any]] = []
        self.loop = Loop(
            site="site",
            application=self._application,
            threads=1,
            limits=limits or Limits(),
            row=scoreboard.RowWriter(self.words, 0, os.getpid(), 1, 1),
            errors=self.errors,
            trust=trust,
        )
        self.loop.on_wake[TURN] = self.loop.end
        self.loop._trouble = _raise  # type: ignore[assignment, method-assign]  # here a mistake is not survived

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["body"] = environ.pop("wsgi.input").read()
        self.seen.append(environ)
        start_response("200 OK", [("X-Application", "yes")])
        return [b"."]

    def turn(self) -> None:
        """One batch of whatever is ready."""
        self.loop.ended = False
        self.loop.wake(TURN)
        self.loop.poll(self.loop.poller)

    def connect(
        self, peer: tuple[str, str] = PEER, *, preface: bool = False
    ) -> tuple[socket.socket, Callable[[], Connection | None]]:
        """A client's end, and what gives the connection that the worker has for it, if it still has one."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fd = theirs.fileno()
        if preface:
            self.loop.add_proxied(theirs, LOCAL, peer, self.loop.add)
        else:
            self.loop.add(theirs, LOCAL, peer)
        return ours, lambda: self.loop.connections.get(fd)

    def read(
        self, pieces: Iterable[bytes], *, peer: tuple[str, str] = PEER, preface: bool = False
    ) -> Reading:
        """Send these pieces, each once the worker has read the one before, and say that there is no more."""
        self.seen = []
        reading = Reading()
        ours, current = self.connect(peer, preface=preface)
        with ours:
            for piece in pieces:
                with contextlib.suppress(ConnectionError):
                    ours.send(piece)  # at most some ten kilobytes: it goes in at once
                self._settle(ours, current, reading)
            reading.closed = reading.closed or current() is None
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_WR)
            for _ in range(BATCHES_MAX):
                if current() is None:
                    break
                self.turn()
                self._receive(ours, reading)
            else:
                raise AssertionError("the connection hangs")
            self._receive(ours, reading)
        reading.requests = self.seen
        return reading

    def _settle(
        self, ours: socket.socket, current: Callable[[], Connection | None], reading: Reading
    ) -> None:
        for _ in range(BATCHES_MAX):
            self.turn()
            self._receive(ours, reading)
            connection = current()
            if connection is None or connection.phase == GONE or not _waiting_bytes(connection.fd):
                return
        raise AssertionError("the worker does not read on")

    def _receive(self, ours: socket.socket, reading: Reading) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := ours.recv(1 << 16):
                reading.sent += data
            reading.closed = True

    def close(self) -> None:
        for connection in list(self.loop.connections.values()):
            connection.close()
        self.loop._epoll.close()
        self.loop._wake_in.close()
        self.loop._wake_out.close()
        os.close(self.memory)


def _raise(_fd: int, error: Exception) -> None:
    raise error


def _waiting_bytes(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


@contextlib.contextmanager
def in_process(**options: Any) -> Iterator[InProcess]:
    made = InProcess(**options)
    try:
        yield made
    finally:
        made.close()


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
