"""How much of what was sent the other side has not taken yet, as the kernel knows it."""

from __future__ import annotations

import fcntl
import struct
import termios

_INT = struct.Struct("i")
_ROOM = bytes(_INT.size)


def untaken_bytes(fd: int) -> int:
    """Bytes in a socket's send queue: unacknowledged (tcp(7), SIOCOUTQ) or unread (a Unix socket's); 0 if unknown."""
    try:
        found: bytes = fcntl.ioctl(fd, termios.TIOCOUTQ, _ROOM)
    except OSError:
        return 0
    count: int = _INT.unpack(found)[0]
    return count
