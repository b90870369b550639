"""What a pool says: one line for people that names the site and the thing.

Knows words and nothing of when they are said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core import death
from djsup.core.actions import Level, NoticeKind, Publish
from djsup.core.worker import State, Worker

if TYPE_CHECKING:
    from djsup.core.actions import Action
    from djsup.core.events import Exit
    from djsup.core.model import Generation, ProcId, SiteName
    from djsup.core.template import Template


class Notices:
    """Writes what one site says into a list of actions."""

    def __init__(self, site: SiteName, out: list[Action]) -> None:
        self._site = site
        self._out = out

    def say(
        self,
        kind: NoticeKind,
        text: str,
        *,
        level: Level = Level.INFO,
        generation: Generation | None = None,
        proc: ProcId | None = None,
        by: str = "",
        details: str = "",
    ) -> None:
        """Say something of the site."""
        line = f'site "{self._site}": {text}'
        self._out.append(Publish(kind, line, self._site, level, generation, proc, by, details))

    def worker(
        self, kind: NoticeKind, worker: Worker, text: str, *, level: Level = Level.INFO, details: str = ""
    ) -> None:
        """Say something of one worker."""
        self._out.append(self.of_worker(kind, worker, text, level=level, details=details))

    def of_worker(
        self, kind: NoticeKind, worker: Worker, text: str, *, level: Level = Level.INFO, details: str = ""
    ) -> Publish:
        """Something to say of one worker."""
        pid = "" if worker.pid is None else f" (pid {worker.pid})"
        line = f'site "{self._site}": worker {worker.slot}{pid} of generation {worker.generation} {text}'
        return Publish(kind, line, self._site, level, worker.generation, worker.proc, details=details)

    @staticmethod
    def last_words(process: Worker | Template, end: Exit) -> tuple[str, str]:
        """How a process ended and what it wrote last, when it said nothing better of itself before."""
        ours = isinstance(process, Worker) and process.state is State.KILLED
        return death.in_words(end, killed_by_us=ours or process.end_asked), death.last_words(end)
