"""How a process ended, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.events import Exit


def in_words(end: Exit, *, killed_by_us: bool = False) -> str:
    """One clause, as ``killed by SIGKILL (out of memory)`` or ``exited with status 1``."""
    if end.signal is not None:
        why = []
        if end.out_of_memory:
            why.append("out of memory")
        elif end.signal == "SIGKILL" and not killed_by_us:
            why.append("not by djsup: by hand, or by the kernel for memory")
        if end.core_dumped:
            why.append("core dumped")
        return f"killed by {end.signal}" + (f" ({', '.join(why)})" if why else "")
    if end.status is not None:
        return f"exited with status {end.status}"
    return "ended, its exit status is not known"


def last_words(end: Exit) -> str:
    """The last lines of its standard error, for a notice's details."""
    return "\n".join(end.stderr)
