"""The client of the control socket: one JSON object a line, one request a connection.

``Client`` blocks and is for the command line; ``AsyncClient`` is the same for asyncio and is for
the dashboard. Both know the protocol and nothing of what a verb means. An answer is stream lines
(as many as the verb has), then one last line with the result or the refusal.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

SOCKET_NAME = "control.sock"
LINE_MAX_BYTES = 16 * 1024 * 1024
"""The longest line of an answer that is read."""
CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
"""How long a daemon that is busy may leave a connection waiting in its queue."""
RESULT = "result"


class ClientError(Exception):
    """No answer, or not the one that was asked for. The text is for people."""


class NotRunning(ClientError):
    """There is no daemon: no socket, nobody behind it, or it ended before it had answered."""


class TimedOut(ClientError):
    """The daemon did not answer in time. What was asked may still happen."""


class Refused(ClientError):
    """The daemon answered that it can't, or won't."""

    def __init__(self, error: str, problems: tuple[str, ...] = (), status: int = 1) -> None:
        super().__init__(error)
        self.problems = problems
        """Every mistake, when a configuration was refused."""
        self.exit = status
        """The exit status that the command line gives: 1, 2 or 4."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer."""

    kind: str
    """``event``, ``log``, ``snapshot`` or ``progress``; the last one of an answer: ``result``."""
    value: Any


class Client:
    """Asks the daemon of one runtime directory, and waits."""

    def __init__(self, runtime_dir: str, by: str = "cli") -> None:
        self.runtime_dir = runtime_dir
        self.path = os.path.join(runtime_dir, SOCKET_NAME)  # noqa: PTH118 -- a socket's name is a text
        self.by = by

    def call(self, verb: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
        """Ask, and give the result; stream lines before it are passed over.

        Raises:
            NotRunning, TimedOut, Refused: as their names say.
        """
        with closing(self.stream(verb, timeout_s, **arguments)) as lines:
            for line in lines:
                if line.kind == RESULT:
                    return line.value
        raise AssertionError("an answer ends with a result or an error")

    def stream(
        self, verb: str, timeout_s: float | None = None, **arguments: Any
    ) -> Generator[Line, None, None]:
        """Ask, and give each line of the answer as it comes, the result last.

        Args:
            verb: what is asked.
            timeout_s: for the whole answer; None: for ever.
            arguments: the verb's.

        Raises:
            NotRunning, TimedOut, Refused: as their names say.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(min(CONNECT_TIMEOUT_S, _left(deadline, verb)))
                connection.connect(self.path)
                connection.sendall(_request(verb, self.by, arguments))
            except OSError as error:
                _check_connection(error, self.runtime_dir, verb)
            received = _Received(verb)
            while True:
                while (said := received.line()) is None:
                    connection.settimeout(None if deadline == math.inf else _left(deadline, verb))
                    try:
                        received.add(connection.recv(CHUNK_BYTES))
                    except TimeoutError as error:
                        raise _timed_out(verb) from error
                    except ConnectionError:
                        received.add(b"")
                line = _parse(said, verb)
                yield line
                if line.kind == RESULT:
                    return


class AsyncClient:
    """As Client, for asyncio, on one control socket. A call that is cancelled closes its connection."""

    def __init__(self, path: str, by: str = "dashboard") -> None:
        self.path = path
        self.runtime_dir = os.path.dirname(path)  # noqa: PTH120 -- a socket's name is a text
        self.by = by

    async def call(self, verb: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
        """Ask, and give the result; stream lines before it are passed over.

        Raises:
            NotRunning, TimedOut, Refused: as their names say.
        """
        async with aclosing(self.stream(verb, timeout_s, **arguments)) as lines:
            async for line in lines:
                if line.kind == RESULT:
                    return line.value
        raise AssertionError("an answer ends with a result or an error")

    async def stream(
        self, verb: str, timeout_s: float | None = None, **arguments: Any
    ) -> AsyncGenerator[Line, None]:
        """Ask, and give each line of the answer as it comes, the result last; ``timeout_s`` is for all of it.

        Raises:
            NotRunning, TimedOut, Refused: as their names say.
        """
        import asyncio  # noqa: PLC0415  # a quarter of the time that the command line takes to start, and needless there

        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        loop = asyncio.get_running_loop()
        # Not asyncio's streams: they forget what they have read when a write fails.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(min(CONNECT_TIMEOUT_S, _left(deadline, verb))):
                    await loop.sock_connect(connection, self.path)
                    await loop.sock_sendall(connection, _request(verb, self.by, arguments))
            except OSError as error:  # TimeoutError is one
                _check_connection(error, self.runtime_dir, verb)
            received = _Received(verb)
            while True:
                while (said := received.line()) is None:
                    try:
                        async with asyncio.timeout(None if deadline == math.inf else _left(deadline, verb)):
                            received.add(await loop.sock_recv(connection, CHUNK_BYTES))
                    except TimeoutError as error:
                        raise _timed_out(verb) from error
                    except ConnectionError:
                        received.add(b"")
                line = _parse(said, verb)
                yield line
                if line.kind == RESULT:
                    return


class _Received:
    """What has come on a connection, cut into lines."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._bytes = bytearray()
        self._searched = 0

    def add(self, chunk: bytes) -> None:
        """Add what was read.

        Raises:
            NotRunning: it is empty: the daemon has closed the connection.
            Refused: the line is too long.
        """
        if not chunk:
            raise NotRunning(f"the daemon ended before it had answered to {self._verb}")
        self._bytes += chunk
        if self._searched > LINE_MAX_BYTES:
            raise Refused(f"a line of the answer to {self._verb} is longer than {LINE_MAX_BYTES} bytes")

    def line(self) -> bytes | None:
        """The next line without its end; None when more must be read first."""
        end = self._bytes.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._bytes)
            return None
        line = bytes(self._bytes[:end])
        del self._bytes[: end + 1]
        self._searched = 0
        return line


def _request(verb: str, by: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({**arguments, "verb": verb, "by": by}).encode() + b"\n"


def _left(deadline: float, verb: str) -> float:
    """Seconds until a deadline.

    Raises:
        TimedOut: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise _timed_out(verb)
    return left


def _timed_out(verb: str) -> TimedOut:
    return TimedOut(f"the daemon did not answer to {verb} in time")


def _check_connection(error: OSError, runtime_dir: str, verb: str) -> None:
    """Raise what a failed connection means; return when an answer may be waiting all the same."""
    match error:
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            raise NotRunning(f"no daemon is running in {runtime_dir}") from error
        case TimeoutError() | BlockingIOError():  # EAGAIN: its queue of connections is full
            raise _timed_out(verb) from error
        case PermissionError():
            owner = "its owner or root"
            raise Refused(f"the daemon in {runtime_dir} can be controlled by {owner} only") from error
        case BrokenPipeError() | ConnectionResetError():
            return  # a daemon that refuses a peer answers, and closes before it has read the request
        case _:
            raise NotRunning(f"no daemon can be reached in {runtime_dir}: {error}") from error


def _parse(line: bytes, verb: str) -> Line:
    """What a line says.

    Raises:
        Refused: it is the last line, and not ok; or it is no line of the protocol.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the answer to {verb} is no JSON: {line[:100]!r}") from error
    match said:
        case {"ok": True, "result": value}:
            return Line(RESULT, value)
        case {"ok": False}:
            status = said.get("exit", 1)
            raise Refused(
                str(said.get("error") or "refused without a reason"),
                tuple(map(str, said.get("problems") or ())),
                status if status in (1, 2, 4) else 1,
            )
        case {**keys} if len(keys) == 1 and "ok" not in keys:
            ((kind, value),) = keys.items()
            return Line(str(kind), value)
        case _:
            raise Refused(f"the answer to {verb} is none of this protocol: {line[:100]!r}")
