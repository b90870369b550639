"""py-spy: looks at a worker from outside of it, and so sees what it does in C, too.

It is run from the daemon's PATH, as the daemon's user, and only when somebody asks for it: it needs the right to trace
processes (ptrace(2)), and stops the worker for the moment of each look.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Self

from djsup.shell import processes
from djsup.turns import Turn

if TYPE_CHECKING:
    from djsup.core.events import Exit
    from djsup.core.model import Pid

LATE_S = 20.0
"""How much longer than asked for it may take: it reads the symbols of all libraries first."""
TEXT_MAX_BYTES = 32 * 1024 * 1024
ERROR_MAX_BYTES, ERROR_MAX = 16 * 1024, 300


class CannotSpy(Exception):
    """py-spy has recorded nothing; the text says why."""


def find() -> str | None:
    """Where py-spy is; None: it is not installed."""
    return shutil.which("py-spy")


async def record(program: str, running: processes.Processes, pid: Pid, seconds: float, rate: float) -> bytes:
    """What it has seen, as its ``raw`` format has it: one stack a line, outermost call first, and its count.

    Raises:
        CannotSpy: nothing.
    """
    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def has_ended(end: Exit) -> None:
        if not ended.done():
            ended.set_result(end)

    with _Memory() as found, _Memory() as said:
        command = processes.Command(
            arguments=[
                program, "record", "--pid", str(pid), "--native", "--function", "--full-filenames",
                "--duration", str(max(1, round(seconds))), "--rate", str(max(1, round(rate))),
                "--format", "raw", "--output", f"/proc/self/fd/{found.fd}",
            ],
            directory="/",
            environment=processes.environment(processes.Identity(), {}),
            identity=processes.Identity(),
            stdout=said.fd,
            stderr=said.fd,
            keep_fds=(found.fd,),
            orphan_signal="SIGTERM",
            turn=Turn.LONG,
        )  # fmt: skip
        try:
            own = running.run(command, has_ended)
        except processes.CannotRun as error:
            raise CannotSpy(str(error)) from error
        try:
            async with asyncio.timeout(seconds + LATE_S):
                end = await ended
        except TimeoutError as error:
            raise CannotSpy(f"py-spy has not come to an end in {seconds + LATE_S:.0f} s") from error
        finally:
            if not ended.done() or ended.cancelled():
                running.kill(own, "SIGKILL")
        if end.status != 0:
            raise CannotSpy(f"py-spy: {_reason(said.read(ERROR_MAX_BYTES).decode(errors='replace'))}")
        return found.read(TEXT_MAX_BYTES)


class _Memory:
    """Memory that another process writes to as to a file."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("djsup-py-spy", os.MFD_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.fd)

    def read(self, most_bytes: int) -> bytes:
        return os.pread(self.fd, most_bytes, 0)


def _reason(said: str) -> str:
    """What went wrong, of all that it has printed: the error, and its deepest cause."""
    lines = [line.strip() for line in said.partition("Stack backtrace")[0].splitlines()]
    told = [line for line in lines if line and not line.startswith(("py-spy>", "Caused by"))]
    return (f"{told[0].removeprefix('Error: ')} ({told[-1]})" if len(told) > 1 else "".join(told))[:ERROR_MAX]
