"""What slow and hostile clients do: each attack is a few lines of script that many connections play at a time.

An attack runs in a process of its own, against loopback only, until its block ends; a connection that the
server has closed is opened anew. The server's application must answer ``/`` with something short, ``/big``
with 4 MiB, and read what is sent to it.
"""

import asyncio
import multiprocessing
import resource
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

START_S = 30.0
SOURCES = 16
"""Loopback addresses that connections come from, in turn: each has ports of its own."""
AGAIN_S = 0.02
"""A pause before a connection is opened anew, so that an attack does not only measure its own machine."""
IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): the port is chosen when the other end is known, so that one port serves several connections."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset (socket(7))."""


@dataclass(slots=True)
class Tally:
    """What became of an attack."""

    opened: int = 0
    ended: int = 0
    """Connections that the server closed or that came to the end of their script."""


class Caller:
    """One connection of an attacker. Every method raises OSError or EOFError when the server has closed it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.sock, data)
        await asyncio.sleep(0)  # sending alone would let no other caller in while the kernel takes it all

    async def read(self, most: int = 65536) -> bytes:
        """Wait for some bytes."""
        data = await self._loop.sock_recv(self.sock, most)
        if not data:
            raise EOFError
        return data

    async def until_closed(self) -> None:
        """Read whatever comes until the server closes."""
        while True:
            await self.read()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


Script = Callable[[Caller], Awaitable[None]]
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack."""

    name: str
    script: Script
    connections: int = 100
    receive_bytes: int = 0
    """SO_RCVBUF of its sockets; 0: the kernel's choice."""


async def _slow_headers(caller: Caller) -> None:
    await caller.send(GET)
    while True:
        await asyncio.sleep(0.2)
        await caller.send(b"X-More: yes\r\n")


async def _slow_body(caller: Caller) -> None:
    await caller.send(POST + b"Content-Length: 10000000\r\n\r\n")
    while True:
        await caller.send(b"x")
        await asyncio.sleep(0.2)


async def _slow_chunks(caller: Caller) -> None:
    await caller.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await caller.send(b"1\r\nx\r\n")
        await asyncio.sleep(0.2)


async def _held_bodies(caller: Caller) -> None:
    await caller.send(POST + b"Content-Length: 1000001\r\n\r\n" + b"x" * 1_000_000)
    await caller.until_closed()


async def _slow_read(caller: Caller) -> None:
    await caller.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while True:
        await caller.read(1)
        await asyncio.sleep(0.2)


async def _idle(caller: Caller) -> None:
    await caller.send(GET + b"\r\n")
    await caller.until_closed()


async def _silent(caller: Caller) -> None:
    await caller.until_closed()


async def _connects(caller: Caller) -> None:
    caller.sock.close()


async def _resets(caller: Caller) -> None:
    for data in (b"GET", POST + b"Content-Length: 2000000\r\n\r\n" + b"x" * 500_000, b"x" * 600_000):
        await caller.send(data)
    caller.reset()


async def _reset_requests(caller: Caller) -> None:
    await caller.send((GET + b"\r\n") * 20)
    caller.reset()


async def _half_closed(caller: Caller) -> None:
    await caller.send(GET + b"\r\n")
    caller.sock.shutdown(socket.SHUT_WR)
    await caller.until_closed()


async def _endless_headers(caller: Caller) -> None:
    await caller.send(GET)
    while True:
        await caller.send(b"X-More: yes\r\n" * 100)


async def _empty_lines(caller: Caller) -> None:
    while True:
        await caller.send(b"\r\n" * 4096)


async def _endless_extensions(caller: Caller) -> None:
    await caller.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await caller.send(b"1" + b";a=b" * 200 + b"\r\nx\r\n")


async def _endless_trailers(caller: Caller) -> None:
    await caller.send(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    while True:
        await caller.send(b"X-More: yes\r\n" * 100)


async def _tiny_chunks(caller: Caller) -> None:
    await caller.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await caller.send(b"1\r\nx\r\n" * 10_000)
        await asyncio.sleep(0.1)  # each costs the server more than its sender


async def _pipeline(caller: Caller) -> None:
    async def ask() -> None:
        while True:
            await caller.send((GET + b"\r\n") * 1000)

    asking = asyncio.create_task(ask())
    try:
        await caller.until_closed()
    finally:
        asking.cancel()
        with suppress(OSError, asyncio.CancelledError):
            await asking


async def _pipeline_unread(caller: Caller) -> None:
    while True:
        await caller.send((GET + b"\r\n") * 1000)


ATTACKS = (
    Attack("slow headers", _slow_headers),
    Attack("slow body", _slow_body),
    Attack("slow chunks", _slow_chunks),
    Attack("bodies that stop", _held_bodies),
    Attack("slow read", _slow_read, receive_bytes=4096),
    Attack("idle connections", _idle, connections=1000),
    Attack("silent connections", _silent, connections=1000),
    Attack("half-closed", _half_closed, connections=20),
    Attack("connects", _connects, connections=20),
    Attack("resets in a body", _resets, connections=20),
    Attack("resets behind requests", _reset_requests, connections=20),
    Attack("endless headers", _endless_headers, connections=20),
    Attack("endless empty lines", _empty_lines, connections=4),
    Attack("endless chunk extensions", _endless_extensions, connections=20),
    Attack("endless trailers", _endless_trailers, connections=20),
    Attack("tiny chunks", _tiny_chunks, connections=4),
    Attack("pipelining", _pipeline, connections=4),
    Attack("pipelining, unread", _pipeline_unread, connections=20),
)


class Attacker:
    """A process that attacks a port of 127.0.0.1, from entering the block to its end."""

    def __init__(self, attack: Attack, port: int, connections: int = 0) -> None:
        self._near, far = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_attack, args=(far, attack.name, port, connections or attack.connections), daemon=True
        )
        self.tally = Tally()

    def __enter__(self) -> Self:
        """Begin; returns once every connection has been opened a first time."""
        self._process.start()
        if not self._near.poll(START_S):
            self._process.kill()
            raise TimeoutError("the attack did not begin")
        self._near.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; every connection is closed."""
        self._near.send("stop")
        if self._near.poll(START_S):
            self.tally = self._near.recv()
        self._process.join(5)
        self._process.kill()
        self._process.join()
        self._process.close()
        self._near.close()


def _attack(pipe: Connection, name: str, port: int, connections: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (attack,) = (each for each in ATTACKS if each.name == name)
    tally = Tally()

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        begun = [asyncio.Event() for _ in range(connections)]
        tasks = [
            asyncio.create_task(_play(attack, (f"127.0.0.{2 + at % SOURCES}", 0), port, tally, each))
            for at, each in enumerate(begun)
        ]
        for each in begun:
            await each.wait()
        pipe.send("begun")
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    pipe.send(tally)


async def _play(
    attack: Attack, source: tuple[str, int], port: int, tally: Tally, begun: asyncio.Event
) -> None:
    """Play the script on one connection after another."""
    while True:
        with socket.socket() as sock, suppress(OSError, EOFError):
            sock.setblocking(False)
            if attack.receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, attack.receive_bytes)
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(source)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            tally.opened += 1
            begun.set()
            await attack.script(Caller(sock))
        tally.ended += 1
        await asyncio.sleep(AGAIN_S)
