"""Memory that others write and we read, or the other way round, of a length that nobody can change."""

from __future__ import annotations

import fcntl
import os

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Whoever made it shorter would kill who reads it with SIGBUS: sealed for ever."""


def of_size(name: str, size: int) -> int:
    """A descriptor of so many bytes, all zero (memfd_create(2)).

    Raises:
        OSError: out of memory or descriptors.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
