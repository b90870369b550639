"""What a router keeps for the next daemon: the listeners of shared addresses, and the line to the vault.

A daemon that is killed takes no listener with it that a router accepts from. The next daemon asks for them at a socket
in its runtime directory, which the earlier one had opened and the router has inherited: nobody but its user can enter
that folder. A daemon knows the listeners again by what the kernel says of them. What the router has counted comes last,
and the router's end of the conversation is closed when it acts no more. The two are of different versions where the next daemon
is: a name that it does not know is passed over.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VAULT = "(vault)"
"""What the line to the vault is called among the addresses."""
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


def give(home: socket.socket, given: list[tuple[str, socket.socket]]) -> socket.socket | None:
    """Somebody asks: give the listeners, with their addresses. Gives who has asked, if he has them.

    Only a process of the user who opened ``home``, or root, can reach it.
    """
    with suppress(OSError):
        asker, _ = home.accept()
        try:
            names = json.dumps([address for address, _ in given]).encode()
            socket.send_fds(asker, [names], [sock.fileno() for _, sock in given])
        except OSError:
            asker.close()
            return None
        return asker
    return None


def say_last(asker: socket.socket, figures: dict[Any, Any]) -> None:
    """Nothing is done any more.

    Raises:
        OSError: he is gone.
    """
    with asker:
        asker.send(json.dumps(figures).encode())


def ask(path: Path) -> tuple[list[tuple[str, socket.socket]], dict[str, Any]]:
    """The listeners that an earlier daemon's router has, and accepts from no more, and its figures; empty: there is none.

    Raises:
        TimeoutError: there is one, and it does not answer.
    """
    given: list[tuple[str, socket.socket]] = []
    figures: dict[str, Any] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.settimeout(WAIT_S)
        try:
            asker.connect(str(path))
            data, fds, _, _ = socket.recv_fds(asker, MESSAGE_MAX_BYTES, FDS_MAX)
            given = list(zip(json.loads(data), (socket.socket(fileno=fd) for fd in fds), strict=True))
            if last := asker.recv(MESSAGE_MAX_BYTES):
                figures = dict(json.loads(last))
        except TimeoutError:
            for _, sock in given:
                sock.close()
            raise
        except (OSError, ValueError, TypeError):
            pass
    return given, figures
