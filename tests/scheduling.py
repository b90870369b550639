"""What the kernel knows of a process's turns and of its session, read by the tests."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

import pytest

_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_SIZE_BYTES = 48
_RUNTIME_AT = 24

NUMBERS = tuple(int(each) for each in os.uname().release.split("-")[0].split(".")[:2])
knows_turns = pytest.mark.skipif(
    NUMBERS < (6, 12) or platform.machine() not in _SCHED_GETATTR, reason="turns need Linux 6.12"
)
knows_sessions = pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups"
)
may_be_idle = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take SCHED_IDLE back")


def turns(pid: int) -> set[int]:
    """How long the turns of a process's threads are, in nanoseconds."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 -- names
        said = ctypes.create_string_buffer(_SIZE_BYTES)
        number = _SCHED_GETATTR[platform.machine()]
        assert ctypes.CDLL(None).syscall(number, int(thread), said, _SIZE_BYTES, 0) == 0
        found.add(int(struct.unpack_from("Q", said.raw, _RUNTIME_AT)[0]))
    return found


def session_niceness(pid: int) -> int:
    """How far the session of a process stands back."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
