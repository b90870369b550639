"""The very end of a process, when nothing of the site is left to be done."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import NoReturn

EXIT_S = 3.0
"""What the application's own exit functions and threads may take once everything is said."""
LAST_MS = 5
"""How long threads that have been told to end may take to be gone."""

_ends = threading.Event()
# A site may have its own by then (gevent), which would let others run.
_sleep = time.sleep


def watch(status: int) -> None:
    """Make sure that this process ends soon, whatever the application's exit functions do."""

    def wait() -> None:
        if not _ends.wait(EXIT_S):
            os._exit(status)

    threading.Thread(target=wait, name="djsup-exit", daemon=True).start()


def end(status: int) -> NoReturn:
    """End at once, and let all others have the processors before: to give its memory back takes the kernel milliseconds."""
    try:
        _ends.set()
        let_others_go()
    finally:
        os._exit(status)


def let_others_go() -> None:
    """Run only where no other process wants to, from now on; but not where there are other threads.

    To reap a process the kernel waits for the last steps of its threads, and computes meanwhile: with threads that
    nobody lets run, the daemon would hang for tens of milliseconds.
    """
    with contextlib.suppress(OSError):
        for _ in range(LAST_MS):
            if threads() == 1:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                return
            _sleep(0.001)


def threads() -> int:
    """How many threads this process has, those of the application and of its libraries included (proc(5), ``stat``)."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[17])
