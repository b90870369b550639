"""Descriptors that came from elsewhere, and how to be rid of them.

Whoever sends a TCP connection, or has had it before, decides by SO_LINGER how long its last close(2) takes while something
is unsent: hours. Left to the kernel, which closes what finds no room in recvmsg(2), that close would be ours too.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BYTES = array("i").itemsize
MOST = 253
"""That can come with one message (linux/net/scm.h, SCM_MAX_FD)."""
ROOM = socket.CMSG_SPACE(MOST * BYTES)
_LINGER_NOT = struct.pack("ii", 0, 0)
"""SO_LINGER: close(2) waits for nothing, and what is unsent is sent on."""


def in_message(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Those that came with a message."""
    return [
        fd
        for level, kind, value in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for fd in array("i", value[: len(value) - len(value) % BYTES])
    ]


def close_all(fds: Iterable[int]) -> None:
    """Close them without a wait."""
    for fd in fds:
        with suppress(OSError):
            try:
                sock = socket.socket(
                    socket.AF_UNIX, socket.SOCK_STREAM, 0, fd
                )  # of whatever family: nobody asks
            except OSError:  # it is no socket
                os.close(fd)
            else:
                close(sock)


def close(sock: socket.socket) -> None:
    """Close a connection without a wait."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    sock.close()
