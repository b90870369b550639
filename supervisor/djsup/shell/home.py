"""Home: the socket on which processes call whose daemon was killed.

Everybody may connect, because each site's user must be able to; who it is, the kernel says (SO_PEERCRED), and
whoever is not expected is told to go. What a caller hands over is judged by ``adoption.py``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from djsup.core.model import Pid
from djsup_worker import messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALL_S = 5.0
"""A caller says at once what it has to say."""
CALLERS_MAX = 256
"""Callers that have not said it yet."""
_CREDENTIALS = struct.Struct("3i")


class Home:
    """The socket. ``called(pid, message, channel, fds)`` gets each caller that was expected, with what is its own then."""

    def __init__(
        self,
        path: Path,
        expected: Callable[[Pid], bool],
        called: Callable[[Pid, messages.Orphan, socket.socket, list[int]], None],
    ) -> None:
        self._path = path
        self._expected = expected
        self._called = called
        self._listener: socket.socket | None = None
        self._callers: dict[socket.socket, asyncio.TimerHandle] = {}

    def open(self) -> None:
        """Listen; an old file of that name is replaced (the pid file's lock was won before).

        Raises:
            OSError: it cannot be made.
        """
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.setblocking(False)
            listener.bind(str(self._path))
            self._path.chmod(0o666)
            listener.listen(CALLERS_MAX)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Listen no more, and remove the file."""
        if self._listener is None:
            return
        for caller in list(self._callers):
            self._drop(caller)
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            caller, _ = listener.accept()
        except OSError:
            return  # gone again, or no descriptor free: it calls again
        caller.setblocking(False)
        if len(self._callers) >= CALLERS_MAX:
            caller.close()
            return
        if not self._expected(_pid(caller)):
            with suppress(OSError):
                # Read first: what is unread at the end is a reset to the other side, and hides the answer. Without
                # room for them the kernel drops the descriptors.
                caller.recv(messages.MESSAGE_MAX_BYTES)
            with suppress(OSError):
                messages.send(caller, messages.Drain(0.0))
            caller.close()
            return
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        loop = asyncio.get_running_loop()
        self._callers[caller] = loop.call_later(CALL_S, self._drop, caller)
        loop.add_reader(caller, self._hear, caller)

    def _hear(self, caller: socket.socket) -> None:
        try:
            found = messages.receive(caller)
        except (BlockingIOError, messages.BadMessage):
            return  # of another version: what it has to say comes next
        except OSError:
            found = None
        if found is None:
            self._drop(caller)
            return
        message, fds = found
        pid = _pid(caller)
        if not isinstance(message, messages.Orphan) or not self._expected(pid):
            self._drop(caller)
            for fd in fds:
                os.close(fd)
            return
        self._forget(caller)
        self._called(pid, message, caller, fds)

    def _forget(self, caller: socket.socket) -> None:
        self._callers.pop(caller).cancel()
        asyncio.get_running_loop().remove_reader(caller)

    def _drop(self, caller: socket.socket) -> None:
        self._forget(caller)
        caller.close()


def _pid(caller: socket.socket) -> Pid:
    """Who has connected, as the kernel says (unix(7), SO_PEERCRED)."""
    raw = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _uid, _gid = _CREDENTIALS.unpack(raw)
    return Pid(pid)
