"""The load: wrk for as much as goes, and keep-alive clients of our own that notice every connection closed.

wrk reconnects without a word when a server closes an idle connection; ``Clients`` counts it.
"""

import asyncio
import multiprocessing
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

PAUSE_S = 0.005
"""How long a client of ours rests between two requests, so that some connections are idle at any time."""
ANSWER_S = 30.0
"""After this long without an answer a request counts as failed."""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk says at its end."""

    requests: int
    seconds: float
    failed: int
    """Socket errors and answers other than 2xx and 3xx."""
    p99_ms: float

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


class Wrk:
    """One run of wrk on one thread."""

    def __init__(self, url: str, seconds: float, connections: int) -> None:
        self.process = subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url],
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        """End the run now; wrk sums up what it has."""
        self.process.send_signal(signal.SIGINT)

    def result(self) -> WrkResult:
        """Wait for the end of the run.

        Raises:
            RuntimeError: wrk printed something else than its summary.
        """
        text, _ = self.process.communicate()
        total = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", text)
        if total is None:
            raise RuntimeError(f"wrk says: {text}")
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        failed = sum(map(int, errors.groups())) if errors else 0
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
        seconds = float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
        p99_ms = float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[p99[2]] if p99 else 0.0
        return WrkResult(int(total[1]), seconds, failed + (int(wrong[1]) if wrong else 0), p99_ms)


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


class Clients:
    """Keep-alive clients in a process of their own, from entering the block to its end."""

    def __init__(self, port: int, path: str, connections: int) -> None:
        self._near, far = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_clients, args=(far, port, path, connections), daemon=True
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
        if self._near.poll(ANSWER_S * 2):
            self.result = self._near.recv()
        self._process.join(5)
        self._process.kill()


def _clients(pipe: Connection, port: int, path: str, connections: int) -> None:
    result = ClientsResult()

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        pipe.send("ready")
        await asyncio.gather(*(_client(port, path, result, stop) for _ in range(connections)))

    asyncio.run(run())
    result.latencies_ms.sort()
    pipe.send(result)


async def _client(port: int, path: str, result: ClientsResult, stop: asyncio.Event) -> None:
    """One connection after another, one request after another."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            result.failed += 1
            await asyncio.sleep(PAUSE_S)
            continue
        try:
            while not stop.is_set():
                begin = time.monotonic()
                keep = await asyncio.wait_for(_ask(reader, writer, request), ANSWER_S)
                took_ms = (time.monotonic() - begin) * 1000
                result.requests += 1
                result.worst_ms = max(result.worst_ms, took_ms)
                result.latencies_ms.append(took_ms)
                if not keep:
                    result.closed += 1
                    break
                await asyncio.sleep(PAUSE_S)
                if reader.at_eof():  # closed while it was idle: nothing was lost, but it was closed
                    result.closed += 1
                    break
        except (OSError, EOFError, ValueError, TimeoutError):
            result.failed += 1
            result.closed += 1
        finally:
            writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
    """One request and its whole answer; False when the server closes the connection after it.

    Raises:
        ValueError: not a 200.
        EOFError, OSError: no whole answer.
    """
    writer.write(request)
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
        return False
    return b"connection: close" not in head and not head.startswith(b"http/1.0")
