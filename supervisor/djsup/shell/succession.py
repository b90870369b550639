"""Succession: this process gets another program (execve(2)), which finds in it what was left for it.

The descriptors that are named stay open, and no others; signals that come meanwhile wait until somebody hears them.
What they mean is left to whoever calls.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

TEXT_MAX_BYTES = 256 * 1024 * 1024
FIRST_FD = 3
_SEALED = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


def replace(
    program: Sequence[str], environ: Mapping[str, str], fds: Iterable[int], signals: Iterable[signal.Signals]
) -> NoReturn:
    """Run another program in this process. To be called by the main thread: all others end.

    Raises:
        OSError: it cannot be run, and everything is as before.
    """
    kept = list(fds)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        for fd in kept:
            os.set_inheritable(fd, True)
        os.execve(program[0], list(program), dict(environ))  # noqa: S606 -- no shell is wanted
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read(fd: int) -> bytes:
    """What was left in a sealed memfd; others may read it from the same descriptor.

    Raises:
        ValueError: it is none.
        OSError: it can't be read.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ValueError(f"descriptor {fd} is no memory") from error
    size = os.fstat(fd).st_size
    if seals & _SEALED != _SEALED or size > TEXT_MAX_BYTES:
        raise ValueError(f"descriptor {fd} is not what is handed over: {size} bytes, seals {seals}")
    text = b""
    while len(text) < size and (more := os.pread(fd, size - len(text), len(text))):
        text += more
    return text


def take(fds: Iterable[int]) -> None:
    """These are ours now: no process that is started from here on gets them.

    Raises:
        ValueError: one of them is not open, or is named twice.
    """
    taken = list(fds)
    if len(set(taken)) != len(taken) or any(fd < FIRST_FD for fd in taken):
        raise ValueError("a descriptor is handed over twice")
    for fd in taken:
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise ValueError(f"descriptor {fd} is not open") from error


def close_all() -> None:
    """Close whatever there is but standard input, output and error: none of it is known."""
    os.closerange(FIRST_FD, os.sysconf("SC_OPEN_MAX"))
