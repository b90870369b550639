"""Who has a processor first when there are too few, without that anybody gets less of them in the end.

A turn is how long a process computes before the next in line may, sched_setattr(2). Who wakes up and wants a short one
need not wait for the end of somebody's long one: a request on a busy machine waits for tenths of a millisecond instead
of the kernel's four. So what answers requests takes short turns, and what loads code takes long ones. Linux 6.12 and
later do so; earlier ones take no notice.

What loads code stands back besides. If we may take it back, which takes root, its policy is SCHED_IDLE: to the kernel a
processor that runs nothing else is free, and whoever is woken goes there, instead of waiting for one that another worker
has. And where the kernel shares the processors among sessions (autogroups, sched(7)), its session has what the others leave, and a
tenth of it where they leave nothing. ``see`` tells how it gets on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
import time
from contextlib import suppress
from enum import IntEnum
from functools import cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
"""The number of the system call, for which the C library had no function for long."""
_ATTRIBUTES = struct.Struct("IIQiIQQQ")
"""struct sched_attr, in its first size."""
_STANDS_BACK, _USUAL = b"10", b"0"
"""The niceness of a session."""
_NO_PRIORITY = os.sched_param(0)
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


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


def let_all_go(pid: int) -> bool:
    """Let all others go before a process, and what it has started; False: it is gone, or we could not take it back."""
    return _may_be_idle() and _reschedule((pid,), os.SCHED_OTHER, os.SCHED_IDLE)


def stand_back(leader: int) -> bool:
    """Let all others go before a session that begins, by its leader; False: it cannot be, or not now."""
    stands = let_all_go(leader)
    with suppress(OSError):
        Path(_session(leader)).write_bytes(_STANDS_BACK)
        stands = True
    return stands


def stands_back(pid: int) -> bool:
    """Whether the session of a process stands back, as far as the kernel knows sessions."""
    with suppress(OSError):
        return _read(_session(pid)).endswith(b" %b\n" % _STANDS_BACK)
    return False


def come_forward(pids: Sequence[int]) -> bool:
    """The end of it for processes, and all that they have started; False: not yet, ask again in a moment.

    The kernel bears few such wishes of who is not root. What code has made SCHED_IDLE by itself while it was loaded cannot be told
    from what has inherited that.
    """
    if _may_be_idle():
        _reschedule(pids, os.SCHED_IDLE, os.SCHED_OTHER)
    is_done = True
    for pid in pids:
        try:
            if stands_back(pid):
                Path(_session(pid)).write_bytes(_USUAL)
        except OSError as error:
            is_done = is_done and error.errno != errno.EAGAIN
    return is_done


class Seen(NamedTuple):
    """What processes were about at one moment."""

    at: float
    """In seconds, of the monotonic clock."""
    ran_s: float
    """How long they have run so far, in seconds."""
    want: bool
    """Whether one of their threads runs, or waits for a processor."""


def see(members: Iterable[int]) -> Seen:
    """Look at processes, and what they have started (proc(5), ``stat``)."""
    ran, want = 0, False
    for thread in _threads(members):
        with suppress(OSError):
            fields = _read(f"/proc/{thread}/task/{thread}/stat").rpartition(b")")[2].split()
            want = want or fields[0] == b"R"
            ran += int(fields[11]) + int(fields[12])
    return Seen(time.monotonic(), ran * _TICK_S, want)


def kept_waiting_s(before: Seen, now: Seen) -> float:
    """For how long, about, they wanted a processor and had none."""
    if not before.want or not now.want:
        return 0.0
    return max(0.0, now.at - before.at - (now.ran_s - before.ran_s))


def _session(leader: int) -> str:
    return f"/proc/{leader}/autogroup"


def _reschedule(pids: Iterable[int], before: int, after: int) -> bool:
    """Give threads of one policy another, those of what the processes have started, too; False: there is none."""
    found = False
    for thread in _threads(pids):
        with suppress(OSError):
            if os.sched_getscheduler(thread) == before:
                os.sched_setscheduler(thread, after, _NO_PRIORITY)
                found = True
    return found


@cache
def _may_be_idle() -> bool:
    """Whether we may make threads SCHED_IDLE and, what is less often so, take that back: one of our own tries it."""
    tried = []

    def try_it() -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, _NO_PRIORITY)
            os.sched_setscheduler(0, os.SCHED_OTHER, _NO_PRIORITY)
            tried.append(True)

    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    return bool(tried)


def _threads(pids: Iterable[int]) -> Iterator[int]:
    """The threads of processes, and of those that they have started; what ends meanwhile is left out."""
    todo, known = list(pids), set()
    while todo:
        pid = todo.pop()
        if pid in known:
            continue
        known.add(pid)
        with suppress(OSError):
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 -- names
                yield thread
                with suppress(OSError):
                    todo.extend(map(int, _read(f"/proc/{pid}/task/{thread}/children").split()))


def _read(path: str) -> bytes:
    """A file of the kernel's about a process. Without a Path and a buffer: there are dozens in a reload."""
    with FileIO(path) as file:
        return file.read()
