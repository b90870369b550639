"""Sockets that whoever started the daemon has handed over: socket activation, and systemd's file descriptor store.

They are numbered from 3 and named by LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)). The variables are taken out of
the environment: no program of a site may believe that they are meant for it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

FIRST_FD = 3
FDS_MAX = 1024
UNNAMED = "unknown"
"""What systemd calls a socket that has no name."""


def take(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """The sockets with their names, in order; none when they are meant for another process. What is no socket is closed."""
    pid, number, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not number.isdigit() or int(number) > FDS_MAX:
        return []
    named = names.split(":")
    found = []
    for index in range(int(number)):
        fd = FIRST_FD + index
        name = named[index] if index < len(named) and named[index] else UNNAMED
        try:
            os.set_inheritable(fd, False)
            found.append((name, socket.socket(fileno=fd)))
        except OSError:
            continue
    return found


def again(held: Iterable[tuple[str, int]]) -> list[tuple[str, socket.socket]]:
    """Those that another program of this process has taken before."""
    return [(name, socket.socket(fileno=fd)) for name, fd in held]
