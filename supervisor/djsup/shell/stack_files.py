"""Stack files: where the processes of a site write the stacks of their threads, and when these are whole.

One memfd a site, which every process of it has from its start (``djsup_worker.stacks``): one is asked at a time.
faulthandler ends its text with nothing that could be waited for, so the kernel is asked: while a signal's handler
runs, the signal is in the blocked mask of that thread (sigaction(2), ``SigBlk`` in proc(5)).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from djsup_worker.stacks import TRACE_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.model import Pid

TEXT_MAX_BYTES = 1024 * 1024
"""faulthandler writes at most 100 threads of 100 frames each."""
ANSWER_S = 2.0
"""How long a process may take to write its stacks, on a machine that has much to do."""
LOOK_FIRST_S, LOOK_LAST_S = 0.001, 0.02
_BIT = 1 << (TRACE_SIGNAL - 1)


class NoStacks(Exception):
    """A process has not written its stacks; the text says why, as far as the kernel tells."""


class StackFile:
    """The file of one site."""

    def __init__(self, site: str, fd: int | None = None) -> None:
        """``fd`` is a file for stacks that exists already.

        Raises:
            ValueError: it is none.
        """
        if fd is None:
            fd = os.memfd_create(f"djsup-{site}-stacks", os.MFD_CLOEXEC)
        elif not _is_memory(fd):
            raise ValueError("no file for stacks")
        self.fd = fd
        self._one_at_a_time = asyncio.Lock()
        self._late: dict[Pid, Look] = {}
        """Processes that were asked and may yet write, as they were before."""

    async def read(self, pid: Pid, ask: Callable[[], None]) -> str:
        """What a process writes; ``ask`` sends it TRACE_SIGNAL.

        Raises:
            NoStacks: it has written nothing.
        """
        async with self._one_at_a_time:
            await self._hear_out(pid)
            text = await self._read(pid, ask)
            if woken := [late for late in self._late if not _waits(late)]:
                # One that was given up has answered meanwhile, and its text may be among the other's.
                for late in woken:
                    with suppress(NoStacks):
                        await self._hear_out(late)
                text = await self._read(pid, ask)
            return text

    def close(self) -> None:
        """Give the memory back when the last process of the site is gone."""
        os.close(self.fd)

    async def _read(self, pid: Pid, ask: Callable[[], None]) -> str:
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)  # for the writers too: it is one open file for all of them
        before = _look(pid)
        if not before.catches:
            raise NoStacks("it is only just starting")
        self._late[pid] = before
        ask()
        # In this order: what was written before the handler was seen to have ended is whole.
        await self._wait(lambda: os.fstat(self.fd).st_size > 0 and _look(pid).is_done(before))
        text = os.pread(self.fd, TEXT_MAX_BYTES, 0)
        if not text:
            raise NoStacks(_look(pid).why_silent)
        await self._hear_out(pid)
        return text.decode("utf-8", "backslashreplace")

    async def _hear_out(self, pid: Pid) -> None:
        """Wait until a process has no question open: to be asked twice, it would write twice.

        Raises:
            NoStacks: it does not answer.
        """
        if (before := self._late.get(pid)) is None:
            return
        try:
            if not await self._wait(lambda: _look(pid).is_done(before)):
                raise NoStacks(_look(pid).why_silent)
        except NoStacks:
            if not _waits(pid):
                del self._late[pid]  # it has ended, or writes without end
            raise
        del self._late[pid]

    @staticmethod
    async def _wait(question: Callable[[], bool]) -> bool:
        """Ask again and again, for there is nothing that tells; False when ANSWER_S are over."""
        look_s = LOOK_FIRST_S
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while not question():
                    await asyncio.sleep(look_s)
                    look_s = min(LOOK_LAST_S, look_s * 1.5)
                return True
        return False


def _is_memory(fd: int) -> bool:
    """Whether an orphan has handed in memory, which is read and written without waiting for anybody."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return not seals & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)


@dataclass(frozen=True, slots=True)
class Look:
    """What the kernel says of a process and TRACE_SIGNAL."""

    state: str
    """One letter of proc(5)."""
    catches: bool
    """Whether it is ready for the signal, which would end it otherwise."""
    pending: bool
    blocking: frozenset[str]
    """Threads that have the signal blocked: some library's own for ever, others while they write stacks."""

    def is_done(self, before: Look) -> bool:
        """Whether no question is open, and no thread is writing that was not blocking the signal before."""
        return not self.pending and self.blocking <= before.blocking

    @property
    def why_silent(self) -> str:
        """Why no stacks have come."""
        match self.state:
            case "D":
                return "it waits in the kernel and hears no signal (state D): for a disk or a network file system?"
            case "T" | "t":
                return "it is stopped (state T): by SIGSTOP, or by a debugger"
            case _:
                return f"it has written no stacks in {ANSWER_S:.0f} s (state {self.state})"


def _look(pid: Pid) -> Look:
    state, catches, pending, blocking = "?", False, False, set()
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                facts = _facts((thread / "status").read_text())
                catches |= bool(int(facts["SigCgt"], 16) & _BIT)
                pending |= bool((int(facts["SigPnd"], 16) | int(facts["ShdPnd"], 16)) & _BIT)
                if int(facts["SigBlk"], 16) & _BIT:
                    blocking.add(thread.name)
                if thread.name == str(pid):
                    state = facts["State"][:1]
    except OSError as error:
        raise NoStacks("it has ended") from error
    return Look(state, catches, pending, frozenset(blocking))


def _facts(status: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


def _waits(pid: Pid) -> bool:
    try:
        return _look(pid).pending
    except NoStacks:
        return False
