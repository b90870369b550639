"""Clients of many kinds at a shared address, each on one connection, which is never to be closed.

``Load`` asks the same thing as fast as it can; these do what real clients do: send heads in pieces, several requests at
once, bodies slowly, wait for a busy site, or say nothing for long. Each answer is compared with what it has to be.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self

Talk = Callable[["Client"], Coroutine[None, None, None]]
ANSWER_S = 30


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

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


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def asks(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        await client.send(get(path))
        await client.answered(expected)

    return talk


def sends_pieces(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        data = get(path)
        await client.send(*(data[at : at + 4] for at in range(0, len(data), 4)), pause_s=0.005)
        await client.answered(expected)

    return talk


def sends_many(*asked: tuple[str, str]) -> Talk:
    async def talk(client: Client) -> None:
        await client.send(b"".join(get(path) for path, _ in asked))
        await client.answered(*(expected for _, expected in asked))

    return talk


def uploads(path: str, *, chunked: bool) -> Talk:
    pieces = [bytes((number % 251,)) * 3000 for number in range(40)]
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {40 * 3000}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()
    sent = [b"%x\r\n%b\r\n" % (len(each), each) for each in pieces] if chunked else list(pieces)
    # What follows belongs to another site, and comes in one piece with the body's end.
    last = (b"0\r\n\r\n" if chunked else sent.pop()) + get("/")

    async def talk(client: Client) -> None:
        await client.send(head, *sent, last, pause_s=0.002)
        await client.answered(expected, "blog/")

    return talk


def is_silent(path: str, expected: str) -> Talk:
    async def talk(client: Client) -> None:
        await asks(path, expected)(client)
        await asyncio.sleep(0.5)

    return talk


class Crowd:
    """``with Crowd(port, {name: (how many, what they do)})``: they go on until the block ends."""

    def __init__(self, port: int, kinds: dict[str, tuple[int, Talk]]) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._kinds = kinds
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
            assert not self.failures, f"{len(self.failures)} failed: {self.failures[:5]}; done: {self.done}"

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until each kind has done this often what it does."""
        wanted = {name: self.done[name] + more for name in self._kinds}
        end = time.monotonic() + timeout_s
        while any(self.done[name] < number for name, number in wanted.items()):
            assert not self.failures, self.failures
            assert time.monotonic() < end, f"{self.done} of {wanted}"
            time.sleep(0.005)

    async def _run(self) -> None:
        everybody = [(name, talk) for name, (number, talk) in self._kinds.items() for _ in range(number)]
        await asyncio.gather(*(self._one(name, talk) for name, talk in everybody))

    async def _one(self, name: str, talk: Talk) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        client = Client(reader, writer)
        try:
            while not self._over.is_set():
                await talk(client)
                self.done[name] += 1
                await asyncio.sleep(0.002)
                if reader.at_eof():
                    raise EOFError("closed while it was idle")
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.failures.append(f"{name}: {error!r}")
        finally:
            writer.close()
