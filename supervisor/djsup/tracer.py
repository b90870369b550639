"""The tracer: what every thread of a site does at this moment, and which request it does it for.

Has each process of the site write its stacks, reads in the scoreboard what its threads run, and puts both
together. Decides nothing, and asks nothing of the site's code: it works while all of it is stuck.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from djsup import stacks
from djsup.shell.stack_files import NoStacks

if TYPE_CHECKING:
    from djsup.core.model import SiteName
    from djsup.performer import Performer, Process

TRACE_S = 20.0
"""After so long the processes that are left are not asked any more."""


class Tracer:
    """Asks the processes that the performer has running."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer

    async def trace(self, site: SiteName) -> dict[str, Any]:
        """What every thread of a site does, as the control socket shows it."""
        deadline = time.monotonic() + TRACE_S
        found: list[tuple[stacks.Thread, stacks.Stack]] = []
        processes = []
        for process in self._processes(site):
            of_process: list[tuple[stacks.Thread, stacks.Stack]] = []
            error = None
            try:
                if time.monotonic() > deadline:
                    raise NoStacks("it was not asked: others took too long to answer")
                of_process = await self._stacks(process)
            except NoStacks as reason:
                error = str(reason)
            found += of_process
            processes.append(
                {
                    "slot": process.slot,
                    "pid": process.pid,
                    "generation": process.generation,
                    "threads": len(of_process),
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

    async def _stacks(self, process: Process) -> list[tuple[stacks.Thread, stacks.Stack]]:
        pid, file = process.pid, self._performer.stack_files.get(process.site)
        if pid is None or file is None:
            raise NoStacks("it has ended")
        running = self._running(process)
        text = await file.read(pid, lambda: self._performer.ask_for_stacks(pid))
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
