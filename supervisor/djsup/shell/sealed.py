"""Sealed memory: content that is handed to another process as a descriptor, and that nobody can change."""

from __future__ import annotations

import fcntl
import os

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def seal(name: str, content: bytes) -> int:
    """A descriptor of a memfd with this content; whoever has it reads it as a file of its own (memfd_create(2)).

    Raises:
        OSError: out of memory or descriptors.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
