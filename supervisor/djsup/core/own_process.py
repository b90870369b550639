"""One of djsup's own processes: the dashboard's, the router's or the keeper's.

A program (``program.py``) with an action that starts it and notices of its starts and deaths. None holds what would be
lost with it, so one that dies is started again. Whether one is needed is decided in ``server.py`` (the dashboard, the
router) and in ``keeper.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.core.actions import Level, NoticeKind, Publish, StartDashboard, StartKeeper, StartRouter
from djsup.core.death import in_words, last_words
from djsup.core.events import ProcessExited, ProcessStarted, SpawnFailed
from djsup.core.model import DASHBOARD, KEEPER, ROUTER
from djsup.core.program import STABLE_AFTER_S, Manners, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djsup.core.actions import Action
    from djsup.core.events import Event
    from djsup.core.memory import ProcessLeft
    from djsup.core.model import ProcId, SiteName


@dataclass(frozen=True, slots=True)
class Role:
    """What tells one of them from the others."""

    name: str
    start: Callable[[ProcId], Action]
    started: NoticeKind
    died: NoticeKind
    stable_after_s: float
    """One that lived longer and died is started again at once."""


ROLES: Mapping[SiteName, Role] = {
    DASHBOARD: Role(
        "dashboard",
        StartDashboard,
        NoticeKind.DASHBOARD_STARTED,
        NoticeKind.DASHBOARD_DIED,
        STABLE_AFTER_S,
    ),
    # It has no slow start to be spared.
    ROUTER: Role("router", StartRouter, NoticeKind.ROUTER_STARTED, NoticeKind.ROUTER_DIED, 0.5),
    # While there is none, programs are in danger.
    KEEPER: Role("keeper", StartKeeper, NoticeKind.KEEPER_STARTED, NoticeKind.KEEPER_DIED, 1.0),
}


class OwnProcess(Program):
    """The dashboard's process, the router's or the keeper's, by its owner."""

    def __init__(self, owner: SiteName, new_proc: Callable[[SiteName], ProcId]) -> None:
        self.owner = owner
        self.role = ROLES[owner]
        self._new_proc = new_proc
        super().__init__(self.role.name, Manners(stable_after_s=self.role.stable_after_s))

    def inherit(self, left: ProcessLeft, now: float, *, anew: bool) -> list[Action]:
        """Go on as another program of the daemon has known it; ``anew``: it is of another version, and is replaced."""
        self.remember(left)
        ended = self.end(now) if anew else None
        return [] if ended is None else [ended]

    def handle(self, event: Event, now: float) -> list[Action]:
        """It has something to tell."""
        match event:
            case ProcessStarted(_, pid):
                self.started(pid, now)
                return [Publish(self.role.started, f"{self.role.name}: runs (pid {pid})")]
            case SpawnFailed(proc, error):
                return self._ended(proc, f"could not be started: {error}", "", now)
            case ProcessExited(proc, end):
                return self._ended(proc, in_words(end), last_words(end), now)
            case _:
                return []

    def _ended(self, proc: ProcId, text: str, details: str, now: float) -> list[Action]:
        if not self.exited(now):
            return []
        wait_s = (self.backoff.next_at or now) - now
        line = f"{self.role.name}: died: {text}; started again in {wait_s:.1f} s"
        return [Publish(self.role.died, line, level=Level.ERROR, proc=proc, details=details)]

    def keep(self, now: float, *, needed: bool, possible: bool = True) -> list[Action]:
        """End it if it is not needed, or start it if it is and that is possible, each if it is due."""
        self.wanted = needed and possible
        ended = self.kill_if_late(now)
        if ended is None and not needed:
            ended = self.end(now)
        out: list[Action] = [] if ended is None else [ended]
        if self.may_start(now):
            proc = self._new_proc(self.owner)
            self.start(proc)
            out.append(self.role.start(proc))
        return out
