"""A load of keep-alive connections that counts what a client would notice.

wrk tells errors but not whether a connection was closed in between (it opens a new one in silence);
this driver keeps each connection until the server closes it, and writes down every odd thing.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Outcome:
    requests: int = 0
    connections: int = 0
    closed: int = 0
    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    bodies: dict[bytes, int] = field(default_factory=dict)

    @property
    def worst_s(self) -> float:
        return max(self.latencies_s, default=0.0)

    def summary(self) -> str:
        return (
            f"{self.requests} requests on {self.connections} connections, {self.closed} closed, "
            f"{len(self.failures)} failed {self.failures[:5]}, worst {self.worst_s * 1000:.1f} ms"
        )


class Load:
    """``with Load(port) as load: ...`` runs requests until the block ends; then ``load.outcome``."""

    def __init__(
        self,
        port: int,
        path: str = "/",
        connections: int = 8,
        pause_s: float = 0.001,
        *,
        keep_alive: bool = True,
        may_fail: bool = False,
        tls: ssl.SSLContext | None = None,
        post: bytes | None = None,
    ) -> None:
        self.outcome = Outcome()
        self._port = port
        self._connections = connections
        self._pause_s = pause_s
        self._keep_alive = keep_alive
        connection = "" if keep_alive else "Connection: close\r\n"
        method = "GET" if post is None else "POST"
        length = "" if post is None else f"Content-Length: {len(post)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{connection}\r\n"
        self._request = head.encode() + (post or b"")
        self._may_fail = may_fail
        self._tls = tls
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for_requests(self._connections)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the load did not end"
        if kind is None and not self._may_fail:
            assert not self.outcome.failures, self.outcome.summary()

    def wait_for_requests(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until so many further requests were answered: the load really runs now."""
        wanted = self.outcome.requests + more
        end = time.monotonic() + timeout_s
        while self.outcome.requests < wanted:
            assert time.monotonic() < end, f"no load: {self.outcome.summary()}"
            time.sleep(0.005)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self._connections)))

    async def _client(self) -> None:
        while not self._over.is_set():
            try:
                await self._one_connection()
            except (OSError, EOFError, ValueError) as error:
                self.outcome.failures.append(repr(error))
                await asyncio.sleep(0.01)

    async def _one_connection(self) -> None:
        name = "localhost" if self._tls is not None else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=name
        )
        self.outcome.connections += 1
        try:
            while not self._over.is_set():
                begun = time.monotonic()
                writer.write(self._request)
                stay = await self._read_answer(reader, begun)
                if not stay:
                    return
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)
                if reader.at_eof():
                    self.outcome.closed += 1
                    return
        finally:
            writer.close()
            if self._tls is not None:  # its goodbye takes a few turns of the loop
                with suppress(OSError):
                    await writer.wait_closed()

    async def _read_answer(self, reader: asyncio.StreamReader, begun: float) -> bool:
        """Read one answer and count it; whether the connection stays open."""
        async with asyncio.timeout(30):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                self.outcome.closed += 1
                raise EOFError(f"closed with {error.partial!r} of an answer") from error
            headers = head.lower()
            length = int(headers.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
        self.outcome.latencies_s.append(time.monotonic() - begun)
        self.outcome.requests += 1
        self.outcome.bodies[body] = self.outcome.bodies.get(body, 0) + 1
        if not head.startswith(b"HTTP/1.1 200 "):
            self.outcome.failures.append(head.split(b"\r\n", 1)[0].decode())
        if b"connection: close" in headers:
            if self._keep_alive:
                self.outcome.closed += 1
            return False
        return True
