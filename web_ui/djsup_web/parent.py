"""Dies with the daemon: the kernel ends this process when its parent is gone.

Leaves to ``__main__`` what the signal does.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ParentGone(Exception):
    """The parent had ended before the kernel could be asked to tell."""


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGTERM at the parent's death (prctl(2)).

    The setting does not look back, so the parent is looked at after it: one that ended before
    would otherwise be waited for by an orphan for ever.

    Raises:
        ParentGone: this process has another parent than ``parent_pid``.
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent_pid:
        raise ParentGone(f"the daemon (pid {parent_pid}) is gone; it takes its dashboard with it")
