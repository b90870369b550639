"""Who has a processor first when there are too few, without that anybody gets less of them in the end.

A turn is how long a process computes before the next in line may, sched_setattr(2). Who wakes up and wants a short one
need not wait for the end of somebody's long one: a request on a busy machine waits for tenths of a millisecond instead
of the kernel's four. So what answers requests takes short turns, and what loads code takes long ones. Linux 6.12 and
later do so; earlier ones take no notice.

Where the kernel shares the processors among sessions (autogroups, sched(7)), the session of what loads code stands
back for a while: it has what the others leave, and a tenth of it where they leave nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
"""The number of the system call, for which the C library had no function for long."""
_ATTRIBUTES = struct.Struct("IIQiIQQQ")
"""struct sched_attr, in its first size."""
_STANDS_BACK, _USUAL = b"10", b"0"
"""The niceness of a session."""


class Turn(IntEnum):
    """The lengths, in nanoseconds."""

    USUAL = 0
    """As long as the kernel gives."""
    SHORT = 100_000
    """The kernel's least."""
    LONG = 20_000_000


def take(pid: int, turn: Turn) -> None:
    """Have the threads of a process, and what they start from now on, take such turns.

    Those that somebody schedules in another way (as SCHED_BATCH, SCHED_FIFO) are left alone.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    with suppress(OSError):  # it is gone, or not ours
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 -- names
            if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                wish = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, turn, 0, 0)
                _LIBC.syscall(number, thread, wish, 0)


def stand_back(leader: int) -> bool:
    """Let other sessions go before the one of this leader; False: it cannot be, or not now."""
    with suppress(OSError):
        _session(leader).write_bytes(_STANDS_BACK)
        return True
    return False


def come_forward(leader: int) -> bool:
    """The end of it; False: the kernel, which bears few such wishes of who is not root, wants to be asked again."""
    try:
        session = _session(leader)
        if session.read_bytes().endswith(b" %b\n" % _STANDS_BACK):
            session.write_bytes(_USUAL)
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True


def _session(leader: int) -> Path:
    return Path(f"/proc/{leader}/autogroup")
