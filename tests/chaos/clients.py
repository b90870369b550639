"""Clients that notice everything, and what may excuse a failure: that a dead or stopped worker held the request."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from dataclasses import dataclass, field

PAUSE_S = 0.02
PATIENCE_S = 40.0
"""How long a client waits for an answer: longer than any fault lasts."""
UPLOAD_BYTES = 1_500_000
"""Above what a worker keeps in memory, so it goes through a temporary file."""
_PID = re.compile(rb"(?i)\r\nx-pid: (\d+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


@dataclass(frozen=True)
class Failure:
    """One request that was not answered as it should be."""

    site: str
    upload: bool
    port: int
    """The client's; 0: it could not connect."""
    pid: int | None
    """Who gave the last answer on this connection; None: nobody did."""
    begun_at: float
    failed_at: float
    what: str


@dataclass
class Excuse:
    """What a fault may have cost: requests that its victim held."""

    fault: str
    site: str
    pid: int | None
    """The victim; None: whoever serves, for uploads alone (a full disk)."""
    ports: frozenset[int] = frozenset()
    """The connections that it held in the moment of its death."""
    exact: bool = True
    """Whether these are all: it was stopped when they were listed. Else it may have accepted more."""
    begun_at: float = field(default_factory=time.monotonic)
    over_at: float = float("inf")

    def covers(self, failure: Failure) -> bool:
        if failure.site != self.site or failure.failed_at < self.begun_at or failure.begun_at > self.over_at:
            return False
        if self.pid is None:
            return failure.upload
        return (
            failure.port in self.ports
            or failure.pid == self.pid
            or (failure.pid is None and failure.port != 0 and not self.exact)
        )


class Clients:
    """Clients of all sites in a thread of their own: some keep their connection, some open one for each request."""

    def __init__(self, ports: dict[str, int], kept: int = 4, fresh: int = 1) -> None:
        self.failures: list[Failure] = []
        self.answers = 0
        self.connections = 0
        self._ports = ports
        self._kept, self._fresh = kept, fresh
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive(), "a client waits for ever"

    async def _run(self) -> None:
        stories = []
        for site, port in self._ports.items():
            stories += [self._client(site, port, keep=True) for _ in range(self._kept)]
            stories += [self._client(site, port, keep=False) for _ in range(self._fresh)]
            if site != "blog":
                stories.append(self._client(site, port, keep=True, upload=True))
        await asyncio.gather(*stories)

    async def _client(self, site: str, port: int, *, keep: bool, upload: bool = False) -> None:
        while not self._over.is_set():
            await self._connection(site, port, keep=keep, upload=upload)
            await asyncio.sleep(PAUSE_S)

    async def _connection(self, site: str, port: int, *, keep: bool, upload: bool) -> None:
        own, pid, begun = 0, None, time.monotonic()
        body = os.urandom(UPLOAD_BYTES) if upload else b""
        head = f"{'POST /upload' if upload else 'GET /'} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(body)}\r\n" if upload else ""
        request = (head + ("\r\n" if keep else "Connection: close\r\n\r\n")).encode() + body
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            own = writer.get_extra_info("sockname")[1]
            self.connections += 1
            stay = True
            while stay and not self._over.is_set():
                begun = time.monotonic()
                writer.write(request)
                async with asyncio.timeout(PATIENCE_S):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    if found := _PID.search(answer):
                        pid = int(found[1])
                    length = _LENGTH.search(answer)
                    await reader.readexactly(int(length[1]) if length else 0)
                self.answers += 1
                if not answer.startswith(b"HTTP/1.1 200 "):
                    self._fail(site, upload, own, pid, begun, answer.split(b"\r\n", 1)[0].decode())
                stay = keep and b"connection: close" not in answer.lower()
                await asyncio.sleep(PAUSE_S * (20 if upload else 1))
                if reader.at_eof():
                    stay = False
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self._fail(site, upload, own, pid, begun, repr(error))
        finally:
            if writer is not None:
                writer.transport.abort()

    def _fail(self, site: str, upload: bool, port: int, pid: int | None, begun: float, what: str) -> None:
        self.failures.append(Failure(site, upload, port, pid, begun, time.monotonic(), what))
