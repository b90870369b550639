"""A router and workers of several sites in this process: real sockets, real lines, each loop in a thread of its own."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from djsup.core.model import SiteName
from djsup.core.routes import Routing, SiteRoute
from djsup.router.loop import Loop as Router
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
        self.router = Router(self.called.append)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._wake_in, self._wake_out = socket.socketpair()
        self._todo: list[Callable[[], None]] = []
        self.router.watch(self._wake_in.fileno(), self._woken)
        self.router.adopt(Routing(tuple(self.routes)))
        self.router.listen([(self.listener.dup(), False)])
        self.stories.append(InThread(self.router.run, lambda: self.do(self._end)))

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
        routers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
        Link(loop, workers)

        def end() -> None:
            loop.on_wake[1] = loop.end
            loop.wake(1)

        story = InThread(loop.run, end)
        story.close = loop.close
        self.stories.append(story)
        self.do(lambda: self.router.add_worker(SiteName(site), routers))

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
        for story in reversed(self.stories):
            story.end()
        self.router.close()
        for each in (self.listener, self._wake_in, self._wake_out):
            each.close()


@contextlib.contextmanager
def world(*routes: SiteRoute, workers: int = 2) -> Iterator[World]:
    made = World(list(routes))
    try:
        for each in routes:
            for _ in range(workers):
                made.add_worker(each.site)
        yield made
    finally:
        made.close()


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
