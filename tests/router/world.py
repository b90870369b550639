"""A router and workers of several sites in this process: real sockets, real lines, each loop in a thread of its own."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from djsup.core.model import SiteName
from djsup.core.routes import Routing, SiteRoute
from djsup.router.loop import Loop as Router
from djsup.router.vault import ENTRY, NOBODY, PUT, WORD_BYTES, Vault, hold
from djsup_worker import scoreboard
from djsup_worker.limits import Limits
from djsup_worker.link import Link
from djsup_worker.loop import Loop

WAIT_S = 20.0
QUEUE = 100


def route(name: str, *hosts: str, mount: str = "", **more: Any) -> SiteRoute:
    known = {"threads": 2, "queue": QUEUE, "queue_timeout_s": WAIT_S, "keepalive_s": WAIT_S}
    known |= {"header_timeout_s": WAIT_S, "max_header_bytes": 32 * 1024}
    return SiteRoute(SiteName(name), hosts, mount, **{**known, **more})


class InThread:
    """Something that runs until it is told to end."""

    def __init__(self, run: Callable[[], object], end: Callable[[], None]) -> None:
        self._end = end
        self.close: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._end()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self.close()


@dataclass
class Seen:
    """A request that an application has got."""

    site: str
    environ: dict[str, Any]


@dataclass
class World:
    """The router's address, and what came to the applications."""

    routes: list[SiteRoute]
    seen: list[Seen] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    stories: list[InThread] = field(default_factory=list)
    application: Callable[[str, dict[str, Any]], bytes] = lambda site, _environ: site.encode()

    def __post_init__(self) -> None:
        self.listener = self.opened()
        self._wake_in, self._wake_out = socket.socketpair()
        self._todo: list[Callable[[], None]] = []
        self._workers: list[tuple[str, Loop]] = []
        self._lines: dict[int, list[socket.socket]] = {}
        """Lines that workers are to take, by their names."""
        self._line: socket.socket | None = None
        """The daemon's copy of the router's line to its vault."""
        self._begin()

    def opened(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0), backlog=128)

    def _begin(self) -> None:
        """Run a router, as its process does."""
        self.router = Router(self.called.append)
        self.router.watch(self._wake_in.fileno(), self._woken)
        self.router.adopt(Routing(tuple(self.routes)))
        if self._line is not None:
            self.router.keep_in(*Vault.take_over(self._line.dup()))
        self.router.listen([(self.listener.dup(), False)])
        self._routing = InThread(self.router.run, lambda: self.do(self._end))

    def put_into_vault(self, server: socket.socket, *, tls: bool = False, owner: int = NOBODY) -> None:
        """Have a connection in the vault that no router has."""
        assert self._line is not None
        os.pwrite(self._table, owner.to_bytes(WORD_BYTES, sys.byteorder), 900 * WORD_BYTES)
        entry = ENTRY.pack(900, 1 << 40, tls, 0)
        socket.send_fds(self._line, [bytes((PUT,)) + entry], [server.fileno()])

    def keep_in_a_vault(self) -> None:
        """Have a vault from now on; it runs in a thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        table = os.memfd_create("table")
        os.ftruncate(table, WORD_BYTES * 1000)
        self._table = table
        self._line = ours.dup()
        vault = Vault(ours, os.dup(table))
        story = InThread(lambda: hold(theirs, table), lambda: None)

        def close() -> None:
            theirs.close()
            os.close(table)

        story.close = close
        self.stories.append(story)
        self.do(lambda: self.router.keep_in(vault, []))

    def lose_router(self) -> None:
        """The router is gone without a word."""
        self._routing.end()
        self.router.leave()

    def replace_router(self) -> None:
        """It is gone, and another one goes on."""
        self.lose_router()
        self.begin_another()

    def begin_another(self) -> None:
        """Another router goes on where one was that is gone."""
        self._begin()
        for name, (site, loop) in enumerate(self._workers, 1):
            self._connect(site, loop, name)
        self.do(lambda: self.router.keep_only(set(range(1, len(self._workers) + 1)), set()))

    def _connect(self, site: str, loop: Loop, name: int) -> None:
        routers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.give_line(workers, loop, name)
        self.do(lambda: self.router.add_worker(SiteName(site), routers, name))

    def give_line(self, line: socket.socket, loop: Loop | None = None, name: int = 1) -> None:
        """Give a worker a line to a router: the first one, or this one."""

        def link() -> None:
            while lines:
                Link(of, lines.pop(0))

        of = self._workers[0][1] if loop is None else loop
        lines = self._lines.setdefault(name, [])
        lines.append(line)
        of.on_wake[2] = link
        of.wake(2)

    def _end(self) -> None:
        self.router.ended = True

    def _woken(self, _mask: int) -> None:
        self._wake_in.recv(100)
        while self._todo:
            self._todo.pop(0)()

    def do(self, what: Callable[[], None]) -> None:
        """Have the router's thread do something."""
        self._todo.append(what)
        self._wake_out.send(b".")

    def add_worker(self, site: str) -> None:
        memory = os.memfd_create("scoreboard")
        os.ftruncate(memory, scoreboard.SIZE_BYTES)
        words = scoreboard.open_words(memory)
        os.close(memory)
        loop = Loop(
            site=site,
            application=self._application(site),
            threads=2,
            limits=Limits(),
            row=scoreboard.RowWriter(words, 0, os.getpid(), 1, 2),
            errors=io.StringIO(),
        )

        def end() -> None:
            loop.on_wake[1] = loop.end
            loop.wake(1)

        story = InThread(loop.run, end)
        story.close = loop.close
        self.stories.append(story)
        self._workers.append((site, loop))
        self._connect(site, loop, len(self._workers))

    def _application(self, site: str) -> Callable[..., Iterable[bytes]]:
        def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ["body"] = environ["wsgi.input"].read()
            self.seen.append(Seen(site, environ))
            said = self.application(site, environ)
            start_response("200 OK", [("Content-Length", str(len(said)))])
            return [said]

        return application

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(WAIT_S)
        return client

    def close(self) -> None:
        self._routing.end()
        self.router.close()
        if self._line is not None:
            self._line.close()
        for story in reversed(self.stories):
            story.end()
        for each in (self.listener, self._wake_in, self._wake_out):
            each.close()


@contextlib.contextmanager
def world(*routes: SiteRoute, workers: int = 2) -> Iterator[World]:
    made = World(list(routes))
    try:
        for each in routes:
            for _ in range(workers):
                made.add_worker(each.site)
        wait_until(
            lambda: sum(each.open for each in list(made.router._lines.values())) == len(routes) * workers
        )
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def strange() -> Iterator[int]:
    """A descriptor that is sent to who does not know it: in the end it is to be closed by all who got it."""
    reading, writing = os.pipe()
    try:
        yield writing
    except BaseException:
        os.close(writing)
        os.close(reading)
        raise
    os.close(writing)
    closed, _, _ = select.select([reading], [], [], WAIT_S)
    os.close(reading)
    assert closed, "somebody has it yet"


def wait_until(question: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not question():
        assert time.monotonic() < end
        time.sleep(0.005)


def answers(client: socket.socket, number: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers, each with a length; fewer when the connection ends."""
    found: list[tuple[int, bytes]] = []
    data = b""
    while len(found) < number:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if separator:
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) >= length:
                found.append((int(head.split(b" ")[1]), rest[:length]))
                data = rest[length:]
                continue
        more = client.recv(1 << 16)
        if not more:
            break
        data += more
    return found
