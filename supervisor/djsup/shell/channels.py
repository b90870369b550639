"""Channels: the daemon's ends of the socketpairs to templates and workers.

Takes the sender's pid from the kernel, never from the message, and refuses descriptors from the other
side. What a message means is left to the performer.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from djsup import descriptors
from djsup.core.model import Pid
from djsup_worker import messages

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Received:
    """One message and the process that the kernel says has sent it."""

    message: messages.Message
    pid: Pid


def open_pair() -> tuple[socket.socket, socket.socket]:
    """The daemon's end, which does not block and is told credentials, and the other side's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


def receive(channel: socket.socket) -> Received | None:
    """The next message; None when the other side is gone.

    Raises:
        BlockingIOError: nothing there now.
        messages.BadMessage: the other side sent what is no message, or without credentials.
    """
    try:
        data, ancillary, _flags, _address = channel.recvmsg(
            messages.MESSAGE_MAX_BYTES,
            socket.CMSG_SPACE(_CREDENTIALS.size) + descriptors.ROOM,
            socket.MSG_CMSG_CLOEXEC,
        )
    except ConnectionResetError:
        return None
    descriptors.close_all(descriptors.in_message(ancillary))
    if not data:
        return None
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, _uid, _gid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])
            return Received(messages.decode(data), Pid(pid))
    raise messages.BadMessage("a message without credentials")
