"""What a router keeps for the next daemon: the listeners of shared addresses.

A daemon that is killed takes no listener with it that a router accepts from. The next daemon asks for them at a socket
in its runtime directory, which the earlier one had opened and the router has inherited: nobody but its user can enter
that folder. A daemon knows the listeners again by what the kernel says of them.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S = 2.0
FDS_MAX = 64
MESSAGE_MAX_BYTES = 64 * 1024


def open_home(path: Path) -> socket.socket:
    """Where the next daemon will ask.

    Raises:
        OSError: as bind(2).
    """
    path.unlink(missing_ok=True)
    home = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        home.bind(str(path))
        path.chmod(0o600)
        home.listen(1)
    except OSError:
        home.close()
        raise
    return home


def give(home: socket.socket, listeners: list[tuple[str, socket.socket]]) -> bool:
    """Somebody asks: give the listeners, with their addresses; whether he has them.

    Only a process of the user who opened ``home``, or root, can reach it.
    """
    with suppress(OSError):
        asker, _ = home.accept()
        with asker:
            names = json.dumps([address for address, _ in listeners]).encode()
            socket.send_fds(asker, [names], [sock.fileno() for _, sock in listeners])
            return True
    return False


def ask(path: Path) -> list[tuple[str, socket.socket]]:
    """The listeners that an earlier daemon's router has, and accepts from no more; empty: there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker, suppress(OSError, ValueError):
        asker.settimeout(WAIT_S)
        asker.connect(str(path))
        data, fds, _, _ = socket.recv_fds(asker, MESSAGE_MAX_BYTES, FDS_MAX)
        return list(zip(json.loads(data), (socket.socket(fileno=fd) for fd in fds), strict=True))
    return []
