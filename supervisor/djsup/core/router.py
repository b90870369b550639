"""The router's process: whether there is to be one, when it is started again, and its addresses.

Knows one process and what it listens on, as ``program.py`` and ``listeners.py`` see them; what it routes where stands in
``routes.py``, and is given to it by the shell. One router serves all shared addresses. It holds nothing that
would be lost with it, so one that dies is started again at once, if it had lived for a moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.actions import Level, NoticeKind, Publish, StartRouter
from djsup.core.backoff import Backoff
from djsup.core.death import in_words, last_words
from djsup.core.events import ProcessExited, ProcessStarted, SpawnFailed
from djsup.core.model import ROUTER
from djsup.core.program import Manners, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.actions import Action, KillProcess
    from djsup.core.events import Event
    from djsup.core.listeners import Listeners
    from djsup.core.model import Address, ProcId

STABLE_AFTER_S = 0.5
"""A router that lived longer and died is started again at once: there are no slow starts to be spared."""


class Router:
    """The router of a fleet."""

    def __init__(self, listeners: Listeners, new_proc: Callable[[], ProcId]) -> None:
        self.process = Program("router", Manners(stable_after_s=STABLE_AFTER_S))
        self.error: str | None = None
        """Why its addresses can't be had."""
        self._listeners = listeners
        self._new_proc = new_proc
        self._binding = Backoff("router addresses")
        self._addresses: tuple[Address, ...] = ()

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        times = (self.process.deadline, self._binding.next_at)
        return min((each for each in times if each is not None), default=None)

    def change(self, addresses: tuple[Address, ...]) -> None:
        """From now on it serves these addresses; none: it is not needed."""
        self._addresses = addresses
        self._listeners.want(ROUTER, addresses)
        self.error = None
        self._binding.reset()
        self._listeners.retry(ROUTER)

    def bound(self) -> None:
        """One of its addresses is bound."""
        if self._listeners.ready(ROUTER, self._addresses):
            self.error = None
            self._binding.reset()

    def not_bound(self, address: Address, error: str, now: float) -> list[Action]:
        """One of its addresses can't be bound."""
        self.error = f"cannot listen on {address}: {error}"
        self._binding.failed(now)
        return [Publish(NoticeKind.LISTENER_FAILED, f"router: {self.error}", level=Level.ERROR)]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Its process has something to tell."""
        match event:
            case ProcessStarted(_, pid):
                self.process.started(pid, now)
                return [Publish(NoticeKind.ROUTER_STARTED, f"router: runs (pid {pid})")]
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
        line = f"router: died: {text}; started again in {wait_s:.1f} s"
        return [Publish(NoticeKind.ROUTER_DIED, line, level=Level.ERROR, proc=proc, details=details)]

    def end(self, now: float, *, at_once: bool) -> KillProcess | None:
        """The daemon ends."""
        self._listeners.forget(ROUTER)
        self._addresses = ()
        return self.process.kill() if at_once else self.process.end(now)

    def keep(self, now: float) -> list[Action]:
        """Start it, or end it, if that is due."""
        late = self.process.kill_if_late(now)
        out: list[Action] = [] if late is None else [late]
        if self._binding.next_at is not None and self._binding.allows(now):
            self._binding.hurry()
            self._listeners.retry(ROUTER)
            out += self._listeners.reconcile()
        if not self._addresses:
            self.process.wanted = False
            ended = self.process.end(now)
            return out if ended is None else [*out, ended]
        # One address that is missing keeps no other from being served.
        self.process.wanted = any(self._listeners.ready(ROUTER, (each,)) for each in self._addresses)
        if self.process.may_start(now):
            proc = self._new_proc()
            self.process.start(proc)
            out.append(StartRouter(proc))
        return out
