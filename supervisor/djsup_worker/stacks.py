"""The stacks of this process, whenever the daemon asks: by a message, or, when it does not hear, by a signal.

Who hears the message looks while it holds the interpreter (``sys._current_frames``), so that no frame changes under
its eyes. The signal is for a process that cannot hear: in its import, or with a thread in C that keeps the interpreter.
faulthandler answers it, in C and without the interpreter, which is its use and its danger: while other threads run
Python code, it reads frames that are gone a moment later, and now and then the process dies of that (SIGSEGV).
Both write the same text. The signal is set up once, before anything of the site's runs, and workers that are
forked have it from their template.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, List, Tuple

if TYPE_CHECKING:
    from djsup_worker.messages import Stacks

TRACE_SIGNAL = signal.SIGRTMIN + 4
DEPTH_MAX = 100
"""Frames of one stack, the most recent ones; as faulthandler."""
TEXT_MAX = 500


def show_on_signal(fd: int) -> None:
    """Write the stacks of all threads to ``fd`` at each TRACE_SIGNAL.

    Without ``chain`` the signal is blocked while they are being written, which tells the daemon when they are
    whole (``djsup.shell.stack_files``).
    """
    with contextlib.suppress(AttributeError, OSError, ValueError, RuntimeError):
        faulthandler.register(TRACE_SIGNAL, file=fd, all_threads=True, chain=False)


def answer(asked: Stacks, fds: List[int]) -> None:
    """Write the stacks of all threads where the daemon wants them; the descriptors are this function's.

    Who comes too late says nothing: the daemon has asked by the signal meanwhile.
    """
    fd = fds[0] if fds else 2
    try:
        if time.monotonic_ns() < asked.until_ns:
            text = of_all_threads().encode("ascii", "backslashreplace")
            with contextlib.suppress(OSError):  # nobody reads it any more
                while text:
                    text = text[os.write(fd, text) :]
    finally:
        for each in fds:
            os.close(each)


def of_all_threads() -> str:
    """What every thread does at this moment, in the form of faulthandler's (CPython, Python/traceback.c)."""
    seen: List[Tuple[int, List[Tuple[str, object, str]], bool]] = []
    # First all that has to be seen at one moment: another thread may run as soon as this one has taken long.
    for ident, innermost in sys._current_frames().items():  # noqa: SLF001  # the documented way to them
        calls: List[Tuple[str, object, str]] = []
        frame = innermost
        while frame is not None and len(calls) < DEPTH_MAX:
            code = frame.f_code
            calls.append((code.co_filename, frame.f_lineno, code.co_name))
            frame = frame.f_back  # type: ignore[assignment]  # typeshed: it is None at the end
        seen.append((ident, calls, frame is not None))
    lines: List[str] = []
    for ident, calls, cut in seen:
        lines.append("Thread 0x%016x (most recent call first):" % ident)
        lines.extend(
            '  File "%s", line %s in %s'
            % (_printable(file), "???" if line is None else line, _printable(name))
            for file, line, name in calls
        )
        lines.extend(["  ..."] if cut else [])
        lines.append("")
    return "\n".join(lines) + "\n"


def _printable(text: str) -> str:
    """As one line, whatever is in it."""
    return text[:TEXT_MAX].replace("\n", "\\n").replace("\r", "\\r")
