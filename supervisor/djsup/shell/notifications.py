"""Notifications: the sockets on which programs say by sd_notify(3) that they are ready and alive.

One socket a process, which only its user may write to. Who sent a word is taken from the kernel, never
from the message, and only the processes of the program's own session are heard; so MAINPID= and the
like have no use here and are passed over. When to read, whoever has it knows: the daemon, or its keeper.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.core.model import Pid

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
MESSAGE_MAX_BYTES = 4096
STATUS_MAX = 200
"""Characters of a status that are kept."""
BITE = 64
"""Messages that are read in one go."""


@dataclass(slots=True)
class Word:
    """What a program said; several messages at once are one word."""

    ready: bool = False
    alive: bool = False
    status: str | None = None


class Hearing:
    """Hears what is said on such a socket, which somebody has made."""

    def __init__(self, sock: socket.socket, told: Callable[[Word], None]) -> None:
        self.pid: Pid | None = None
        """The leader of the session that is heard."""
        self._socket = sock
        self._told = told
        sock.setblocking(False)

    def read(self) -> None:
        """Read what is there now, at most one bite."""
        word = Word()
        for _ in range(BITE):
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(
                    MESSAGE_MAX_BYTES,
                    socket.CMSG_SPACE(_CREDENTIALS.size) + descriptors.ROOM,
                    socket.MSG_CMSG_CLOEXEC,
                )
            except OSError:
                break
            descriptors.close_all(descriptors.in_message(ancillary))  # the answer to BARRIER=1
            if self._is_heard(ancillary):
                _understand(data, word)
        if word != Word():
            self._told(word)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def _is_heard(self, ancillary: list[tuple[int, int, bytes]]) -> bool:
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid, _uid, _gid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])
                with suppress(OSError):
                    return pid == self.pid or os.getsid(pid) == self.pid
        return False


class Notifications(Hearing):
    """The socket of one process: ``address`` is for its NOTIFY_SOCKET."""

    def __init__(
        self, path: Path, uid: int | None, told: Callable[[Word], None], fd: int | None = None
    ) -> None:
        """Make the socket, for a user or (None) for our own; ``fd`` is one that was made for this path already.

        Raises:
            OSError: it cannot be made.
        """
        self.address = str(path)
        self._path = path
        super().__init__(_bind(path, uid) if fd is None else socket.socket(fileno=fd), told)

    def close(self) -> None:
        """Hear no more, and take the address away."""
        super().close()
        with suppress(OSError):
            self._path.unlink()


def _bind(path: Path, uid: int | None) -> socket.socket:
    path.parent.mkdir(mode=0o711, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if uid is not None:
            os.chown(path, uid, -1)
    except OSError:
        sock.close()
        raise
    return sock


def _understand(data: bytes, word: Word) -> None:
    """Lines of ``NAME=VALUE``, as sd_notify(3) describes them; names that mean nothing here are passed over."""
    for line in data.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        if name == "READY" and value == "1":
            word.ready = True
        elif name == "WATCHDOG" and value == "1":
            word.alive = True
        elif name == "STATUS":
            word.status = "".join(char if char.isprintable() else " " for char in value)[:STATUS_MAX]
