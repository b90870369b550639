"""The keeper's process: whether there is to be one, and when it is started again.

It holds what programs need to outlive the daemon, and ends them when no other daemon comes (``djsup/keeper``). While the
daemon lives it does nothing, so nothing is lost with one that dies: the next one gets the same from the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.actions import Level, NoticeKind, Publish, StartKeeper
from djsup.core.death import in_words, last_words
from djsup.core.events import ProcessExited, ProcessStarted, SpawnFailed
from djsup.core.program import Manners, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.actions import Action
    from djsup.core.events import Event
    from djsup.core.memory import ProcessLeft
    from djsup.core.model import ProcId

STABLE_AFTER_S = 1.0
"""A keeper that lived longer and died is started again at once: while there is none, programs are in danger."""


class Keeper:
    """The keeper of a fleet."""

    def __init__(self, new_proc: Callable[[], ProcId]) -> None:
        self.process = Program("keeper", Manners(stable_after_s=STABLE_AFTER_S))
        self._new_proc = new_proc
        self._holds = False
        """Some of the programs that live may have been started to outlive the daemon."""

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        return self.process.deadline

    def adopt(self) -> None:
        """Programs of an earlier daemon are there, which nothing else ends when this one dies."""
        self._holds = True

    def remember(self, left: ProcessLeft | None, now: float, *, anew: bool) -> list[Action]:
        """Go on as another program of the daemon has known it; one of another version is replaced."""
        if left is None:
            return []
        self._holds = True
        self.process.remember(left)
        ended = self.process.end(now) if anew else None
        return [] if ended is None else [ended]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Its process has something to tell."""
        match event:
            case ProcessStarted(_, pid):
                self.process.started(pid, now)
                return [Publish(NoticeKind.KEEPER_STARTED, f"keeper: runs (pid {pid})")]
            case SpawnFailed(proc, error):
                return self._ended(proc, f"could not be started: {error}", "", now)
            case ProcessExited(proc, end):
                return self._ended(proc, in_words(end), last_words(end), now)
            case _:
                return []

    def _ended(self, proc: ProcId, text: str, details: str, now: float) -> list[Action]:
        if not self.process.exited(now):
            return []
        wait_s = max(0.0, (self.process.backoff.next_at or now) - now)
        line = f"keeper: died: {text}; started again in {wait_s:.1f} s"
        return [Publish(NoticeKind.KEEPER_DIED, line, level=Level.ERROR, proc=proc, details=details)]

    def keep(self, now: float, *, wanted: bool, living: bool) -> list[Action]:
        """Start it, or end it, if that is due.

        Args:
            now: the time.
            wanted: programs that are started now are to outlive the daemon.
            living: there are programs.
        """
        late = self.process.kill_if_late(now)
        out: list[Action] = [] if late is None else [late]
        self._holds = living and (self._holds or wanted)
        self.process.wanted = wanted or self._holds
        if not self.process.wanted:
            ended = self.process.end(now)
            return out if ended is None else [*out, ended]
        if self.process.may_start(now):
            proc = self._new_proc()
            self.process.start(proc)
            out.append(StartKeeper(proc))
        return out
