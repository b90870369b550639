"""The very end of a process, when nothing of the site is left to be done."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn


def end(status: int) -> NoReturn:
    """End at once, and let all others have the processors before: to give its memory back takes the kernel milliseconds."""
    let_others_go()
    os._exit(status)


def let_others_go() -> None:
    """Have none of the threads run where another process wants to: the last of them will free the memory."""
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(OSError):  # it has ended
                if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
