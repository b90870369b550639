"""Gives up the daemon's user for the dashboard's own, for good.

The daemon may be root; it starts the dashboard as itself so that the program's files can be read
wherever they lie, and names the user to become.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def give_up(uid: int | None, gid: int | None) -> None:
    """Become this user and group with no other groups, unable to gain anything back (also by exec).

    Raises:
        OSError: the kernel refused; nothing may be served then.
    """
    if gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
    if uid is not None:
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(error)}")
