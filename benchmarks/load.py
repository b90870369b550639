"""The load: wrk for as much as goes, and keep-alive clients of our own that notice every connection closed.

wrk reconnects without a word when a server closes an idle connection; ``Clients`` counts it.
"""

import asyncio
import functools
import gc
import json
import math
import multiprocessing
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from djsup import turns
from djsup.turns import Turn

SCRIPT = Path(__file__).parent / "wrk.lua"
PAUSE_S = 0.005
"""How long a client of ours rests between two requests, so that some connections are idle at any time."""
SPREAD = 0.5
"""By what part of it the time between two requests of a client that asks every so often is longer or shorter."""
SLOW_SHARE = 0.1
"""How many of the requests are for a slow page, where there is one."""
CLOSE_S = 1.0
"""How long a server may take to answer and to close, in seconds."""
ARRIVES = 0.4
"""The part of the load after which a newcomer arrives."""
PIECES = 8
"""What a slow client sends a request in."""
DEPLOY = re.compile(rb"\r\nx-deploy: *(\d+)")
"""How a page says of which deploy it is."""
SETTLED = 20
"""After so many answers in a row of one deploy no other is expected."""
ANSWER_S = 30.0
"""After this long without an answer a request counts as failed."""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk says at its end."""

    requests: int
    seconds: float
    failed: int
    """Socket errors, timeouts and answers other than 2xx and 3xx."""
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


class Wrk:
    """One run of wrk on one thread."""

    def __init__(
        self, url: str, seconds: float, connections: int, *, body_bytes: int = 0, keep_alive: bool = True
    ) -> None:
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT)]
        options += ["--timeout", f"{ANSWER_S:.0f}s"]
        sent = [str(body_bytes), "keep-alive" if keep_alive else "close"]
        self.process = subprocess.Popen(
            ["wrk", *options, url, "--", *sent], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def stop(self) -> None:
        """End the run now; wrk sums up what it has."""
        self.process.send_signal(signal.SIGINT)

    def result(self) -> WrkResult:
        """Wait for the end of the run.

        Raises:
            ValueError: wrk printed something else than its summary.
        """
        text, _ = self.process.communicate()
        return read_summary(text)


def read_summary(text: str) -> WrkResult:
    """The line of JSON that wrk.lua prints below wrk's own words.

    Raises:
        ValueError: there is none.
    """
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError(f"wrk says: {text}")
    said = json.loads(lines[-1])
    return WrkResult(
        requests=said["requests"],
        seconds=said["duration_us"] / 1e6,
        failed=said["failed"],
        p50_ms=said["p50_us"] / 1e3,
        p99_ms=said["p99_us"] / 1e3,
        p999_ms=said["p999_us"] / 1e3,
    )


class Newcomer:
    """One client more that arrives while wrk's connections keep the server busy, in a thread of its own.

    wrk sums up the requests that were answered. A server whose threads belong to the connections that came first
    leaves the others without an answer, and its figures look good; a newcomer notices.
    """

    def __init__(self, url: str, load_began: float, load_s: float) -> None:
        self._url = url
        self._context = trusting()
        self._arrives = load_began + load_s * ARRIVES
        self._load_ends = load_began + load_s
        self._waited_ms: float | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def waited_ms(self) -> float | None:
        """How long it waited for its answer; None when it had none before the load was over."""
        return self._waited_ms

    def join(self, timeout_s: float) -> None:
        """Wait until it was answered or has given up."""
        self._thread.join(timeout_s)

    def _ask(self) -> None:
        time.sleep(max(0.0, self._arrives - time.monotonic()))
        begin = time.monotonic()
        with suppress(OSError):
            with urllib.request.urlopen(self._url, timeout=ANSWER_S, context=self._context) as response:
                response.read(1)
            answered = time.monotonic()
            if answered < self._load_ends:
                self._waited_ms = (answered - begin) * 1000


def closes(host: str, port: int, path: str, context: ssl.SSLContext | None) -> bool:
    """Whether a server closes a connection whose request asks for it (RFC 9112, 9.6).

    wrk believes the answer: with a server that ignores the wish it would go on using its first connections.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((host, port), CLOSE_S) as plain:
        wrapped = context.wrap_socket(plain) if context is not None else plain
        with wrapped as connection:
            connection.sendall(request)
            try:
                while connection.recv(65536):
                    pass
            except TimeoutError:
                return False
    return True


@functools.cache
def trusting() -> ssl.SSLContext:
    """What a client of the benchmark's own certificate needs: nobody vouches for it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class ClientsResult:
    """What our clients saw."""

    requests: int = 0
    failed: int = 0
    """Requests without a whole answer, or with one other than 200."""
    closed: int = 0
    """Connections that the server closed, announced by ``Connection: close`` or not."""
    worst_ms: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    """In order, from the shortest to the longest."""

    def took(self, ms: float) -> None:
        """A request that counts was answered after so long."""
        self.worst_ms = max(self.worst_ms, ms)
        self.latencies_ms.append(ms)

    def percentile_ms(self, share: float) -> float:
        """A percentile of the latencies; 0 when nothing was answered."""
        return self.latencies_ms[int(len(self.latencies_ms) * share)] if self.latencies_ms else 0.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How clients of ours ask."""

    keep_alive: bool = True
    tls: bool = False
    unix: str = ""
    """The path of a Unix socket to connect to, instead of the port."""
    body_bytes: int = 0
    """Sent as a POST when there is any."""
    at_once: int = 1
    """Requests that are sent before the first of them is answered."""
    takes_s: float = 0.0
    """How long it takes to send a request, in PIECES; 0: it is sent whole."""
    every_s: float = 0.0
    """How often a client wants to ask, more or less; 0: PAUSE_S after each answer. What it can't ask, since it waits for
    a quick page that is late, counts from when it would have been asked: else a server that leaves a client without an
    answer for long would have one slow request in a thousand to show for it ("coordinated omission")."""
    slow: str = ""
    """A path that is asked for now and then instead, and takes its time; only the others' time counts."""

    def paced(self, pace_s: float) -> "Manner":
        """The same, where ``every_s`` was not in seconds, but in paces of so many seconds."""
        return replace(self, every_s=self.every_s * pace_s)

    def wait_s(self) -> float:
        """The time from one request to the next: no clock has clients meet again and again, or never."""
        return self.every_s * random.uniform(1 - SPREAD, 1 + SPREAD)

    def request(self, host: str, path: str) -> bytes:
        """What is sent."""
        method = "POST" if self.body_bytes else "GET"
        length = f"Content-Length: {self.body_bytes}\r\n" if self.body_bytes else ""
        close = "" if self.keep_alive else "Connection: close\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{close}\r\n"
        return (head.encode() + bytes(self.body_bytes)) * self.at_once

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection.

        Raises:
            OSError: it is refused, or its handshake fails.
        """
        if self.unix:
            return await asyncio.open_unix_connection(self.unix)
        if self.tls:
            return await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(), ssl_shutdown_timeout=CLOSE_S
            )
        return await asyncio.open_connection("127.0.0.1", port)


PLAIN = Manner()


class Clients:
    """Clients in a process of their own, from entering the block to its end."""

    def __init__(self, port: int, path: str, connections: int, manner: Manner = PLAIN) -> None:
        self._near, far = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_clients, args=(far, port, path, connections, manner), daemon=True
        )
        self.result = ClientsResult()

    def __enter__(self) -> Self:
        self._process.start()
        self._near.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._near.send("stop")
        while self._near.poll(ANSWER_S * 2):
            said = self._near.recv()
            if isinstance(said, ClientsResult):
                self.result = said
                break
        self._process.join(5)
        self._process.kill()

    def await_deploy(self, number: int, timeout_s: float) -> bool:
        """Wait until all that they are answered is of this deploy; whether that came to pass.

        They see it themselves: to ask for it would be a load more, while a reload is measured.
        """
        end = time.monotonic() + timeout_s
        while self._near.poll(max(0.0, end - time.monotonic())):
            if self._near.recv() == number:
                return True
        return False


def _clients(pipe: Connection, port: int, path: str, connections: int, manner: Manner) -> None:
    result = ClientsResult()

    async def run() -> None:
        stop = _Stop()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        pipe.send("ready")
        deploys = _Deploys(pipe)
        await asyncio.gather(
            *(_client(port, path, result, stop, manner, deploys) for _ in range(connections))
        )

    # Their own wait for a processor is not the server's.
    os.setsid()
    turns.take(os.getpid(), Turn.SHORT)
    gc.collect()
    gc.freeze()  # a full collection would cost some ten milliseconds, and all clients would take them for the server's
    asyncio.run(run())
    result.latencies_ms.sort()
    pipe.send(result)


class _Stop(asyncio.Event):
    """The end of the load, and when it came."""

    at = math.inf

    def set(self) -> None:
        if not self.is_set():
            self.at = time.monotonic()
        super().set()


class _Deploys:
    """Which deploy has answered; what has settled is told."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = b""
        self._in_a_row = 0

    def saw(self, head: bytes) -> None:
        """An answer has this head."""
        found = DEPLOY.search(head)
        if found is None:
            return
        self._in_a_row = self._in_a_row + 1 if found[1] == self._last else 1
        self._last = found[1]
        if self._in_a_row == SETTLED:
            self._pipe.send(int(self._last))


async def _client(
    port: int, path: str, result: ClientsResult, stop: _Stop, manner: Manner, deploys: _Deploys
) -> None:
    """One connection after another, one request after another; its time counts the connecting that it needed."""
    quick, other = (manner.request(f"127.0.0.1:{port}", each) for each in (path, manner.slow))
    await asyncio.sleep(manner.wait_s())
    due = time.monotonic()
    while not stop.is_set():
        begin = due if manner.every_s else time.monotonic()
        try:
            reader, writer = await manner.connect(port)
        except OSError:
            result.failed += 1
            await asyncio.sleep(PAUSE_S)
            continue
        if manner.keep_alive:
            begin = time.monotonic()
        try:
            while not stop.is_set():
                counts = not manner.slow or random.random() >= SLOW_SHARE
                await _send(writer, quick if counts else other, manner.takes_s)
                for _ in range(manner.at_once):
                    head, keep = await asyncio.wait_for(_answer(reader), ANSWER_S)
                    took_ms = (time.monotonic() - begin) * 1000
                    deploys.saw(head)
                    result.requests += 1
                    if counts:
                        result.took(took_ms)
                    if not keep:
                        break
                if not manner.keep_alive:
                    due = await _rest(begin, manner, result, stop, late=counts)
                    break
                if not keep:
                    result.closed += 1
                    break
                begin = await _rest(begin, manner, result, stop, late=counts)
                if reader.at_eof():  # closed while it was idle: nothing was lost, but it was closed
                    result.closed += 1
                    break
        except (OSError, EOFError, ValueError, TimeoutError):
            result.failed += 1
            result.closed += manner.keep_alive
        finally:
            writer.close()
            if manner.tls:  # its goodbye takes a few turns of the loop
                with suppress(OSError):
                    await writer.wait_closed()


async def _rest(begun: float, manner: Manner, result: ClientsResult, stop: _Stop, *, late: bool) -> float:
    """Wait for the next request's time, after one whose time was ``begun``; what is ``late`` makes the next one late.

    Gives when its time begins to count.
    """
    if not manner.every_s:
        await asyncio.sleep(PAUSE_S)
        return time.monotonic()
    now = time.monotonic()
    due = (begun if late else now) + manner.wait_s()
    if due > now:
        await asyncio.sleep(due - now)
    elif stop.is_set():
        while due < stop.at:  # it would have asked, and had an answer now at best
            result.took((now - due) * 1000)
            due += manner.wait_s()
    return due


async def _send(writer: asyncio.StreamWriter, request: bytes, takes_s: float) -> None:
    """Send what is asked, at once or in pieces.

    Raises:
        OSError: the connection was reset.
    """
    if not takes_s:
        writer.write(request)
        await writer.drain()
        return
    step = -(-len(request) // PIECES)
    for begin in range(0, len(request), step):
        writer.write(request[begin : begin + step])
        await asyncio.sleep(takes_s / PIECES)


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """The head of one whole answer, in small letters; False beside it when the server closes the connection after it.

    Raises:
        ValueError: not a 200.
        EOFError, OSError: no whole answer.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError(head)
    length = re.search(rb"content-length: *(\d+)", head)
    if length is not None:
        await reader.readexactly(int(length[1]))
    elif b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.read()
        return head, False
    return head, b"connection: close" not in head and not head.startswith(b"http/1.0")
