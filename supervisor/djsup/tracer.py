"""The tracer: what every thread of a site does at this moment, and which request it does it for.

Has each process of the site write its stacks, reads in the scoreboard what its threads run, and puts both
together. Decides nothing, and asks nothing of the site's code: it works while all of it is stuck.

Every process is asked by a message first, which some thread of djsup's own answers while it holds the interpreter.
Only one that says nothing is asked by a signal (``djsup_worker.stacks``): a thread of it keeps the interpreter, so
that no frame moves while faulthandler reads them, or it is stopped, or in its import. What runs Python code and is
dumped so dies of it now and then.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from djsup import stacks
from djsup.shell import answers
from djsup.shell.stack_files import NoStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from djsup.core.model import SiteName
    from djsup.performer import Performer, Process

ANSWER_S = 1.0
"""How long a process may take to answer a message: who can hear it needs the interpreter for a moment."""
TEXT_MAX_BYTES = 4 * 1024 * 1024
"""Of one process: 256 threads of 100 frames, say."""
TRACE_S = 20.0
"""After so long the processes that are left are not asked any more."""

Found = tuple[stacks.Thread, stacks.Stack]


class Tracer:
    """Asks the processes that the performer has running."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer

    async def trace(self, site: SiteName) -> dict[str, Any]:
        """What every thread of a site does, as the control socket shows it."""
        deadline = time.monotonic() + TRACE_S
        asked = self._processes(site)
        told = await asyncio.gather(*(self._ask(each) for each in asked))
        found: list[Found] = []
        processes = []
        for process, answer in zip(asked, told, strict=True):
            of_process, error, by = answer, None, "message"
            if not of_process:
                by = "signal"
                try:
                    if time.monotonic() > deadline:
                        raise NoStacks("it was not asked: others took too long to answer")
                    of_process = await self._signal(process)
                except NoStacks as reason:
                    error = str(reason)
            found += of_process
            processes.append(
                {
                    "slot": process.slot,
                    "pid": process.pid,
                    "generation": process.generation,
                    "threads": len(of_process),
                    "asked_by": by,
                    "error": error,
                }
            )
        return {
            "site": site,
            "threads": len(found),
            "processes": processes,
            "places": [to_json(place) for place in stacks.together(found)],
        }

    def _processes(self, site: SiteName) -> list[Process]:
        """Those of the site that live: workers by their slots, templates behind them."""
        living = [
            each
            for each in self._performer.roster.values()
            if each.site == site
            and each.pid is not None
            and (each.slot is not None or each.channel is not None)
        ]
        return sorted(living, key=lambda each: (each.slot is None, each.slot or 0, each.generation))

    async def _ask(self, process: Process) -> list[Found]:
        """What a process says of itself; nothing: it does not hear."""
        if process.channel is None or (process.boots and not process.spoke):
            return []  # it calls yet, or is in its import: what it is sent now it would read too late

        async def text() -> str:
            until_ns = time.monotonic_ns() + int(ANSWER_S * 1e9)
            told = await answers.read(
                lambda pipe: self._performer.ask_for_stacks(process.proc, until_ns, pipe),
                ANSWER_S,
                TEXT_MAX_BYTES,
            )
            return told.decode("utf-8", "backslashreplace")

        return await self._with_requests(process, text)

    async def _signal(self, process: Process) -> list[Found]:
        """What faulthandler writes of a process.

        Raises:
            NoStacks: nothing.
        """
        pid, file = process.pid, self._performer.stack_files.get(process.site)
        if pid is None or file is None:
            raise NoStacks("it has ended")
        return await self._with_requests(
            process, lambda: file.read(pid, lambda: self._performer.signal_for_stacks(pid))
        )

    async def _with_requests(
        self, process: Process, read: Callable[[], Coroutine[Any, Any, str]]
    ) -> list[Found]:
        pid = process.pid
        assert pid is not None, "it is not asked before it lives"
        running = self._running(process)
        text = await read()
        # A thread has its request in the stack that was running it: one that came in between counts as none.
        now = self._running(process)
        return [
            (stacks.Thread(process.slot, pid, stack.ident, _request(running, now, stack.ident)), stack)
            for stack in stacks.parse(text)
        ]

    def _running(self, process: Process) -> dict[int, tuple[int, str, str]]:
        """What each thread runs, by its ident: since when (ns), method, path."""
        board = self._performer.scoreboards.get(process.site)
        if board is None or process.slot is None or (row := board.row(process.slot, process.pid)) is None:
            return {}
        return {each.ident: (each.since_ns, each.method, each.path) for each in row.running}


def _request(
    before: dict[int, tuple[int, str, str]], now: dict[int, tuple[int, str, str]], ident: int
) -> stacks.Request | None:
    if ident not in before or now.get(ident) != before[ident]:
        return None
    since_ns, method, path = before[ident]
    return stacks.Request(method, path, round(max(0.0, time.monotonic() - since_ns / 1e9), 3))


def to_json(place: stacks.Place) -> dict[str, Any]:
    """One place as the control socket shows it."""
    return {
        "idle": place.idle,
        "frames": [asdict(frame) for frame in place.frames],
        "threads": [asdict(thread) for thread in place.threads],
    }
