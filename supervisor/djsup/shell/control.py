"""The control socket: one JSON object a line, one request a connection, the peer's word of the kernel.

Knows framing, limits and who may connect; what a request means is the desk's affair (``djsup.desk``).
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import struct
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    Answer = AsyncGenerator[dict[str, Any], None]

REQUEST_MAX_BYTES = 64 * 1024
REQUEST_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 64
TURNS_S = 0.01
"""Some turns of asyncio's loop: so long after it was accepted at most, a connection is one that we know of."""
ASK_S = 2.0
"""How long a pause waits for who has connected and not yet got the first line of an answer."""
ANSWER_S = 0.25
"""How long it waits then for the rest; who follows something gets no more."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Peer:
    """Who has connected, as the kernel says."""

    pid: int
    uid: int

    @property
    def user(self) -> str:
        """The peer's user name, or its number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


class Refused(Exception):
    """A request can't be done; becomes the answer ``{"ok": false, ...}``."""

    def __init__(self, error: str, status: int = 1, problems: tuple[str, ...] = ()) -> None:
        super().__init__(error)
        self.status = status
        self.problems = problems


class Control:
    """One control socket in the file system."""

    def __init__(
        self,
        path: Path,
        allow: Callable[[Peer], bool],
        answer: Callable[[dict[str, Any], Peer], Answer],
    ) -> None:
        """``answer`` gives the lines of an answer one by one, the last with the key ``result``.

        Args:
            path: where the socket is made, mode 0600.
            allow: whether a peer may ask at all.
            answer: the lines for a request; raises Refused.
        """
        self._path = path
        self._allow = allow
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        """Those of them that have no line of their answer yet."""
        self._all_heard = asyncio.Event()
        self._all_heard.set()

    async def start(self, owner: int | None = None, fd: int | None = None) -> None:
        """Bind the socket; an old file of that name is replaced (the pid file's lock was won before).

        ``fd`` is the socket, where another program of the daemon has bound it already.

        Raises:
            OSError: it cannot be made.
        """
        self._listener = self._bind(owner) if fd is None else socket.socket(fileno=fd)
        await self.resume()

    @property
    def fd(self) -> int:
        """The listening socket's descriptor, once it is started."""
        assert self._listener is not None
        return self._listener.fileno()

    async def pause(self) -> None:
        """Take no more connections, which wait in the kernel's queue; answer who has asked, as far as that is soon done."""
        server, self._server = self._server, None
        if server is not None:
            # A connection that is accepted and has no transport yet would be lost with the server.
            for each in server.sockets:
                asyncio.get_running_loop().remove_reader(each.fileno())
            await asyncio.sleep(TURNS_S)
            server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_heard.wait(), ASK_S)
        if self._open:
            await asyncio.wait(self._open, timeout=ANSWER_S)

    async def resume(self) -> None:
        """Take connections again."""
        if self._server is None and self._listener is not None:
            self._server = await asyncio.start_server(
                self._connected, sock=self._listener.dup(), limit=REQUEST_MAX_BYTES
            )

    def _bind(self, owner: int | None) -> socket.socket:
        with suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        if owner is not None:
            os.chown(self._path, owner, -1)
        listener.listen(CONNECTIONS_MAX)
        return listener

    async def stop(self) -> None:
        """Close the socket and every connection, and remove the file."""
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=1.0)
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = _this_task()
        self._open.add(task)
        self._asking.add(task)
        self._all_heard.clear()
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            self._hears(task)
            writer.close()

    def _hears(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not self._asking:
            self._all_heard.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer_socket = writer.get_extra_info("socket")
        raw = peer_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        peer = Peer(pid, uid)
        try:
            if not self._allow(peer):
                raise Refused(f"user {peer.user} may not control this daemon")
            if len(self._open) > CONNECTIONS_MAX:
                raise Refused(f"more than {CONNECTIONS_MAX} connections to the control socket")
            request = await self._request(reader)
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await self._stream(self._answer(request, peer), writer, gone)
            finally:
                gone.cancel()
                await asyncio.wait((gone,))  # only one may read at a time, and a refusal reads on
        except Refused as refused:
            line: dict[str, Any] = {"ok": False, "error": str(refused), "exit": refused.status}
            if refused.problems:
                line["problems"] = list(refused.problems)
            await _send(writer, line)
            await _read_the_rest(reader, writer)

    async def _request(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
        except (TimeoutError, ValueError) as error:
            raise Refused(f"no request: {error or 'it did not come in time'}", 2) from error
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused(f"the request is no JSON: {error}", 2) from error
        if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
            raise Refused("the request is no object with a verb", 2)
        return request

    async def _stream(
        self, answer: Answer, writer: asyncio.StreamWriter, gone: asyncio.Future[bytes]
    ) -> None:
        """Send the answer's lines until it ends or the peer is gone."""
        async with aclosing(answer) as lines:
            while True:
                following = asyncio.ensure_future(anext(lines, None))
                await asyncio.wait((following, gone), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    with suppress(asyncio.CancelledError):
                        await following
                    return
                line = following.result()
                if line is None:
                    return
                await _send(writer, {"ok": True, **line} if "result" in line else line)
                self._hears(_this_task())


def _this_task() -> asyncio.Task[None]:
    task: asyncio.Task[None] | None = asyncio.current_task()
    assert task is not None
    return task


async def _send(writer: asyncio.StreamWriter, line: dict[str, Any]) -> None:
    writer.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    await writer.drain()


async def _read_the_rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closing over unread bytes resets the connection, and the peer would not see the refusal."""
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while await reader.read(REQUEST_MAX_BYTES):
                pass
