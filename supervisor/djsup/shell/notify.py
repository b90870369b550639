"""Words to the service manager: sd_notify(3), one datagram of lines to the socket that NOTIFY_SOCKET names.

Says nothing when there is none. Never waits and never fails: a service manager that does not listen is no reason for a
site to stop.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
WAITING_MAX = 1024
"""Words that wait for a service manager that does not read; more are lost."""


class Notify:
    """The way to the service manager."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes its variables out of the environment: they are meant for this process."""
        self.variables = {name: environ[name] for name in VARIABLES if name in environ}
        """As they were, for another program of this process."""
        path = environ.pop("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(os.getpid()))
        wanted = usec.isdigit() and int(usec) > 0 and pid == str(os.getpid())
        self.watchdog_s: float | None = int(usec) / 1e6 if wanted else None
        """Within this time it wants a sign of life; None: it wants none."""

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def say(self, *lines: str, fds: tuple[int, ...] = ()) -> None:
        """Say these lines, ``NAME=value`` each, with these descriptors; what finds no room waits for ``flush``."""
        if self._socket is None or len(self._waiting) >= WAITING_MAX:
            return  # a manager that reads no more will not miss it
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        self._waiting.append((message, [os.dup(fd) for fd in fds]))
        self.flush()

    def flush(self) -> None:
        """Say what waits, in order. The kernel has room for ten datagrams where nobody reads."""
        while self._waiting and self._socket is not None:
            message, fds = self._waiting[0]
            # Not socket.send_fds: it drops the address.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
            try:
                self._socket.sendmsg([message], rights, 0, self._path)
            except BlockingIOError:
                return
            except OSError:
                pass  # nobody is there
            self._waiting.popleft()
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
