"""What the daemon and the keeper say to each other: one JSON object a datagram, descriptors beside it.

From the daemon, on the keeper's channel:

    {"kind": "grace", "s": SECONDS}                 how long programs outlive the daemon
    {"kind": "keep", "proc": N, "signal": NAME,     a program, by its name in the core, and how it is to end; with the
     "timeout_s": SECONDS, "pid": PID or 0,         descriptors of these names, see STDOUT and so on
     "fds": [NAME, ...]}
    {"kind": "farewell", "proc": N, "signal": NAME, "timeout_s": SECONDS}
    {"kind": "gone", "proc": N}                     it has ended

From a program, on the daemon's end of it, before it becomes what it is to be, so that none is unknown for a moment:

    {"kind": "born", "proc": N}                     who that is, the kernel says

From the keeper, to the next daemon that connects to its socket in the runtime directory:

    {"kind": "kept", "proc": N, "pid": PID,         with descriptors, as above
     "told": BOOL,                                  it was told to end already
     "ready": BOOL, "alive": BOOL, "status": TEXT,  what it has said meanwhile
     "lost": {STREAM: BYTES}, "fds": [NAME, ...]}   how much of what it printed is not kept
    {"kind": "all"}                                 these were all

And from that daemon, once it holds everything in its own hands:

    {"kind": "taken"}

The two sides may be of different versions. So what is not known is passed over, be it a kind, a field, or a descriptor's name.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STDOUT, STDERR = "stdout", "stderr"
"""The ends from which one reads what a program prints."""
NOTIFY = "notify"
"""The socket on which it says that it is ready."""
PIDFD = "pidfd"
TEXTS = {STDOUT: "stdout text", STDERR: "stderr text"}
"""Memory with the last of what it printed while no daemon was there."""

NAMES = {STDOUT, STDERR, NOTIFY, PIDFD, *TEXTS.values()}

WAIT_S = 5.0
"""The other side of a conversation is there and has nothing else to do."""
MESSAGE_MAX_BYTES = 64 * 1024
FDS_MAX = 8
TEXT_MAX_BYTES = 1024 * 1024
_FD = array("i")
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a program is ended."""

    signal: str
    timeout_s: float
    """Then it is killed, and what is left of its session."""


@dataclass(slots=True)
class Letter:
    """One message as it came."""

    content: dict[str, Any]
    fds: dict[str, int]
    """Descriptors by their names; they are the receiver's to close."""
    pid: int
    """Who has sent it; 0: the kernel was not asked."""

    def close(self) -> None:
        """Close what came with it."""
        for fd in self.fds.values():
            os.close(fd)


@dataclass(slots=True)
class Kept:
    """One program as the keeper gives it away."""

    pid: int
    told: bool
    ready: bool
    alive: bool
    status: str | None
    lost: Mapping[str, int]
    """How many bytes of each stream are not kept."""
    fds: dict[str, int]

    def close(self) -> None:
        """Close what came with it."""
        for fd in self.fds.values():
            os.close(fd)

    def take_text(self, stream: str) -> bytes:
        """The last of what it printed to a stream while no daemon was there; it is given once."""
        fd = self.fds.pop(TEXTS[stream], None)
        if fd is None:
            return b""
        try:
            return os.pread(fd, TEXT_MAX_BYTES, 0)
        finally:
            os.close(fd)


def send(channel: socket.socket, content: Mapping[str, object], fds: Mapping[str, int] | None = None) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone, or takes nothing now.
    """
    fds = fds or {}
    data = json.dumps({**content, "fds": list(fds)}).encode()
    socket.send_fds(channel, [data], list(fds.values()))


def receive(channel: socket.socket) -> Letter | None:
    """The next message; None: the other side is gone.

    Raises:
        OSError: there is none now, or not in time.
        ValueError: it is no message.
    """
    room = socket.CMSG_SPACE(FDS_MAX * _FD.itemsize) + socket.CMSG_SPACE(_CREDENTIALS.size)
    try:
        data, ancillary, _, _ = channel.recvmsg(MESSAGE_MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    if not data:
        return None
    fds, pid = array("i"), 0
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(value[: len(value) - len(value) % _FD.itemsize])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid, _uid, _gid = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])
    try:
        content = dict(json.loads(data))
        named = dict(zip(content.get("fds", ()), fds, strict=True))
    except (ValueError, TypeError) as error:  # no descriptor was left for those that came
        for fd in fds:
            os.close(fd)
        raise ValueError(f"no letter: {error}") from error
    for name in named.keys() - NAMES:
        os.close(named.pop(name))
    return Letter(content, named, pid)


def born(proc: int) -> bytes:
    """What a program says as its first and only word here."""
    return json.dumps({"kind": "born", "proc": proc}).encode()


def open_pair() -> tuple[socket.socket, socket.socket]:
    """A channel: the daemon's end, on which nothing waits, and the keeper's, which is told who speaks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


def keeper_pid(path: Path) -> int:
    """Who listens at a keeper's socket; 0: nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker, suppress(OSError):
        asker.settimeout(WAIT_S)
        asker.connect(str(path))
        pid: int = _CREDENTIALS.unpack(
            asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[0]
        return pid
    return 0


class Conversation:
    """With the keeper of a daemon that was killed: it gives all that it has, and waits until that is taken."""

    def __init__(self, path: Path) -> None:
        self.kept: dict[int, Kept] = {}
        """Programs by their names in the core; none where there is no keeper."""
        self._socket: socket.socket | None = None
        asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            asker.settimeout(WAIT_S)
            asker.connect(str(path))
            self._hear(asker)
        except (OSError, ValueError, KeyError, TypeError):
            asker.close()
            for each in self.kept.values():  # it has all of it yet, and ends those programs in its time
                each.close()
            self.kept.clear()
        else:
            self._socket = asker

    def _hear(self, asker: socket.socket) -> None:
        while True:
            letter = receive(asker)
            if letter is None:
                raise ValueError("the keeper is gone")
            content = letter.content
            if content.get("kind") == "all":
                return
            if content.get("kind") != "kept" or not {"proc", "pid"} <= content.keys() or content["pid"] <= 1:
                letter.close()
                continue
            self.kept[int(content["proc"])] = Kept(
                int(content["pid"]),
                bool(content.get("told")),
                bool(content.get("ready")),
                bool(content.get("alive")),
                content.get("status"),
                content.get("lost", {}),
                letter.fds,
            )

    def over(self) -> None:
        """Everything is in other hands: the keeper may end."""
        if self._socket is not None:
            with suppress(OSError):
                send(self._socket, {"kind": "taken"})
        self.close()

    def close(self) -> None:
        """Leave it to the keeper, if it was not told that it may end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
