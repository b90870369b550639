"""Clients of many kinds at a shared address, each on one connection, which is never to be closed; with or without TLS.

``Load`` asks the same thing as fast as it can; these do what real clients do: send heads in pieces, several requests at
once, bodies slowly, wait for a busy site, or say nothing for long. Each answer is compared with what it has to be.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self

Talk = Callable[["Client"], Coroutine[None, None, None]]
ANSWER_S = 30


class Client:
    """One connection, and the host that it asks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self.host = host

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    async def answered(self, *bodies: str) -> None:
        for expected in bodies:
            async with asyncio.timeout(ANSWER_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                body = (await self.reader.readexactly(length)).decode()
            if not head.startswith(b"HTTP/1.1 200 ") or body != expected:
                raise ValueError(f"{head!r} {body[:100]!r} instead of {expected!r}")


def asks(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        await client.send(client.get(path))
        await client.answered(expected)

    return talk


def sends_pieces(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        data = client.get(path)
        await client.send(*(data[at : at + 4] for at in range(0, len(data), 4)), pause_s=0.005)
        await client.answered(expected)

    return talk


def sends_many(*asked: tuple[str, str]) -> Talk:
    async def talk(client: Client) -> None:
        await client.send(b"".join(client.get(path) for path, _ in asked))
        await client.answered(*(expected for _, expected in asked))

    return talk


def uploads(path: str, then: str, expected_then: str, *, chunked: bool) -> Talk:
    pieces = [bytes((number % 251,)) * 3000 for number in range(40)]
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {40 * 3000}"
    sent = [b"%x\r\n%b\r\n" % (len(each), each) for each in pieces] if chunked else list(pieces)
    # What follows, perhaps for another site, comes in one piece with the body's end.
    last = b"0\r\n\r\n" if chunked else sent.pop()

    async def talk(client: Client) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {client.host}\r\n{framing}\r\n\r\n".encode()
        await client.send(head, *sent, last + client.get(then), pause_s=0.002)
        await client.answered(expected, expected_then)

    return talk


def is_silent(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        await asks(path, expected)(client)
        await asyncio.sleep(0.5)

    return talk


class Crowd:
    """``with Crowd(port, {name: (how many, what they do)})``: they go on until the block ends.

    ``anew``: each time on a connection of its own, of which so many may fail.
    """

    def __init__(
        self,
        port: int,
        kinds: dict[str, tuple[int, Talk]],
        *,
        host: str = "localhost",
        tls: ssl.SSLContext | None = None,
        anew: bool = False,
        may_fail: int = 0,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._kinds = kinds
        self._host = host
        self._tls = tls
        self._anew = anew
        self._may_fail = may_fail
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the crowd did not end"
        if kind is None:
            self._look()

    def _look(self) -> None:
        some = f"{len(self.failures)} failed: {self.failures[:5]}; done: {self.done}"
        assert len(self.failures) <= self._may_fail, some

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until each kind has done this often what it does."""
        wanted = {name: self.done[name] + more for name in self._kinds}
        end = time.monotonic() + timeout_s
        while any(self.done[name] < number for name, number in wanted.items()):
            self._look()
            assert time.monotonic() < end, f"{self.done} of {wanted}"
            time.sleep(0.005)

    async def _run(self) -> None:
        everybody = [(name, talk) for name, (number, talk) in self._kinds.items() for _ in range(number)]
        await asyncio.gather(*(self._one(name, talk) for name, talk in everybody))

    async def _one(self, name: str, talk: Talk) -> None:
        while not self._over.is_set():
            try:
                await self._on_one_connection(name, talk)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.failures.append(f"{name}: {error!r}")
                if not self._anew:
                    return

    async def _on_one_connection(self, name: str, talk: Talk) -> None:
        server_hostname = None if self._tls is None else self._host
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=server_hostname
        )
        client = Client(reader, writer, self._host)
        try:
            while not self._over.is_set():
                await talk(client)
                self.done[name] += 1
                await asyncio.sleep(0.002)
                if self._anew:
                    return
                if reader.at_eof():
                    raise EOFError("closed while it was idle")
        finally:
            writer.close()
            if self._tls is not None:  # its goodbye takes a few turns of the loop
                with suppress(OSError):
                    await writer.wait_closed()
