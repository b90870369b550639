"""Sessions: what a process leaves behind in the one that it has led, killed with all of it.

Knows numbers and signals; which session is to end, and when, is decided elsewhere.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def kill(leader: int) -> None:
    """Kill the process group of a session's leader, and what made a group of its own within the session.

    The group goes in one system call, so nothing in it can fork its way out; the others are looked for. The leader
    has to be there, as a zombie at least: else the number may be another's.

    Raises:
        ValueError: 0 or 1, which killpg(2) takes for our own group and for everything.
    """
    if leader <= 1:
        raise ValueError(f"{leader} leads no session that could be killed")
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    _kill_members(leader, lambda _pid: True)


def kill_rest(leader: int) -> None:
    """The same for a leader that has just ended and was no child of ours, so that nobody kept its number for us.

    As long as anything of the session is left, the kernel gives the number to nobody. If somebody has it, nothing was left.
    """
    if not _lives(leader):
        kill(leader)


def kill_marked(leader: int, marks: Mapping[str, str]) -> None:
    """The same for a leader that ended while nobody looked: only what has these variables in its environment.

    The number may have been another's since, who is gone, too, and has left others in a session of this name.
    """
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}

    def is_marked(pid: int) -> bool:
        return wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))

    if not _lives(leader):
        _kill_members(leader, is_marked)


def _kill_members(leader: int, may: Callable[[int], bool]) -> None:
    """Kill the others of a session, if they may be killed."""
    for name in os.listdir("/proc"):  # noqa: PTH208 -- thousands of paths would be made for nothing
        with suppress(ValueError, OSError):
            if (pid := int(name)) == leader or os.getsid(pid) != leader:
                continue
            pidfd = os.pidfd_open(pid)
            try:
                # Asked again: now that the pidfd holds it, it is no other.
                if os.getsid(pid) == leader and may(pid):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False
