"""Sessions: what a process leaves behind in the one that it has led, killed with all of it.

Knows numbers and signals; which session is to end, and when, is decided elsewhere.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill(leader: int) -> None:
    """Kill the process group of a session's leader, and what made a group of its own within the session.

    The group goes in one system call, so nothing in it can fork its way out; the others are looked for. The leader
    has to be there, as a zombie at least: else the number may be another's.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for name in os.listdir("/proc"):  # noqa: PTH208 -- thousands of paths would be made for nothing
        with suppress(ValueError, OSError):
            if (pid := int(name)) == leader or os.getsid(pid) != leader:
                continue
            pidfd = os.pidfd_open(pid)
            try:
                if os.getsid(pid) == leader:  # asked again: now that the pidfd holds it, it is no other
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def kill_rest(leader: int) -> None:
    """The same for a leader that has just ended and was no child of ours, so that nobody kept its number for us.

    As long as anything of the session is left, the kernel gives the number to nobody. If somebody has it, nothing was left.
    """
    if not _lives(leader):
        kill(leader)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False
