"""Look at this process as fork(2) would copy it: what could two processes not share?"""

import os
import socket
import stat
import sys
import threading
from typing import Container, List, Optional

from djsup_worker.ending import threads


def hazards(ours: Container[int]) -> List[str]:
    """What makes forking this process unsafe, one sentence each; empty: nothing was found.

    A thread does not survive a fork, but the locks it holds do. An established connection would be
    spoken on by two processes at once. ``ours`` are descriptors that djsup itself opened.
    """
    return _threads() + _connections(ours)


def _threads() -> List[str]:
    tasks = threads()
    if tasks <= 1:
        return []
    names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    named = ": " + ", ".join(names) if names else " that Python did not start"
    return ["the import started %d thread%s%s" % (tasks - 1, "" if tasks == 2 else "s", named)]  # noqa: PLR2004


def _connections(ours: Container[int]) -> List[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd <= 2 or fd in ours:  # noqa: PLR2004  # standard input, output and error
            continue
        peer = _peer(fd)
        if peer is not None:
            found.append("the import left a connection to %s open (descriptor %d)" % (peer, fd))
    return found


def _peer(fd: int) -> Optional[str]:
    """Whom a stream socket is connected to; None: not connected, a datagram socket, or no socket at all."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        found = socket.socket(fileno=fd)
    except OSError:
        return None  # closed by now: the listing itself had a descriptor
    try:
        if found.type != socket.SOCK_STREAM:
            return None
        peer = found.getpeername()
    except OSError:
        return None
    finally:
        found.detach()
    if isinstance(peer, tuple):
        return "%s port %d" % (peer[0], peer[1])
    return "the socket %s" % (os.fsdecode(peer) or "of an unnamed peer")


def interpreter() -> str:
    """The Python that runs, as status shows it."""
    return "%d.%d.%d" % sys.version_info[:3]
