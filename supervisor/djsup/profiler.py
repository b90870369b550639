"""The profiler: has all workers of a site look where their threads are for a while, and puts together what they saw.

The looking is done inside the workers (``djsup_worker.sampler``). Each tells through a pipe of its own, whose end
also tells that it is gone; a worker that does not answer in time is left out, and said so. Who wants to see C code, too,
has py-spy look instead (``djsup.spy``).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from djsup import spy
from djsup.profile import BadProfile, Profile
from djsup.shell import answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from djsup.core.model import SiteName
    from djsup.performer import Performer, Process

SECONDS_DEFAULT, SECONDS_MAX = 10.0, 120.0
RATE_DEFAULT, RATE_MAX = 50.0, 200.0
"""Looks a second at each worker; it looks less often where looking takes more than 5 % of its time."""
LATE_S = 5.0
"""How long after the end a worker may still answer."""
TEXT_MAX_BYTES = 8 * 1024 * 1024
PROGRESS_S = 1.0


class CannotBegin(Exception):
    """The site is being profiled already, or py-spy is not there; the text says so."""


class Profiler:
    """Profiles the workers that the performer has running, one profile of a site at a time."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._running: set[SiteName] = set()

    def begin(
        self, site: SiteName, seconds: float, rate: float, *, native: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Begin; gives lines of progress, then the result. It ends when the generator is closed.

        ``native``: py-spy looks.

        Raises:
            CannotBegin: the site is being profiled already, or py-spy is not there.
        """
        program = spy.find() if native else None
        if native and program is None:
            raise CannotBegin(
                "py-spy is not on the daemon's PATH: install it (pip install py-spy), or do without --native"
            )
        if site in self._running:
            raise CannotBegin(f'site "{site}" is being profiled already; wait until that is over')
        return self._run(site, seconds, rate, program)

    async def _run(
        self, site: SiteName, seconds: float, rate: float, program: str | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        self._running.add(site)
        tasks: dict[asyncio.Task[bytes], Process] = {}
        begun = time.monotonic()
        try:
            for process in self._workers(site):
                looking = (
                    self._ask(process, seconds, rate)
                    if program is None
                    else self._spy(program, process, seconds, rate)
                )
                tasks[asyncio.create_task(looking)] = process
            waiting = set(tasks)
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=PROGRESS_S)
                passed = min(seconds, time.monotonic() - begun)
                yield {"progress": {"site": site, "text": f"{passed:.0f} of {seconds:g} s"}}
            told = _put_together(tasks, native=program is not None)
            yield {
                "result": {
                    "site": site,
                    "seconds": seconds,
                    "rate": rate,
                    "native": program is not None,
                    **told,
                }
            }
        finally:
            for task in tasks:
                task.cancel()
            self._running.discard(site)

    def _workers(self, site: SiteName) -> list[Process]:
        workers = [
            each
            for each in self._performer.roster.values()
            if each.site == site and each.slot is not None and each.channel is not None and each.ready
        ]
        return sorted(workers, key=lambda each: (each.slot or 0, each.generation))

    async def _ask(self, process: Process, seconds: float, rate: float) -> bytes:
        """What one worker has written; empty: it is gone, or profiles already for another daemon's sake."""
        return await answers.read(
            lambda pipe: self._performer.ask_for_profile(process.proc, seconds, rate, pipe),
            seconds + LATE_S,
            TEXT_MAX_BYTES,
        )

    async def _spy(self, program: str, process: Process, seconds: float, rate: float) -> bytes:
        """What py-spy has seen of one worker."""
        assert process.pid is not None, "it is ready"
        return await spy.record(program, self._performer.processes, process.pid, seconds, rate)


def _put_together(tasks: dict[asyncio.Task[bytes], Process], *, native: bool) -> dict[str, Any]:
    profile = Profile()
    processes = []
    for task, process in tasks.items():
        error, rounds = None, 0
        try:
            text = task.result()
            if native:
                rounds = profile.add_folded(text)
            elif text:
                rounds = profile.add(text)
            else:
                error = "it has told nothing: it ended, or a call in C kept it from looking"
        except (BadProfile, spy.CannotSpy, OSError) as reason:
            error = str(reason)
        processes.append({"slot": process.slot, "pid": process.pid, "rounds": rounds, "error": error})
    return {"processes": processes, **profile.to_json()}
