"""One of djsup's own processes that listens, and its addresses: the dashboard, or the router.

Knows one process and what it listens on, as ``own_process.py`` and ``listeners.py`` see them; it is needed while it has
addresses, and started when one of them is bound. What the router routes where stands in ``routes.py``, and is given to it
by the shell. One router serves all shared addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.actions import Level, NoticeKind, Publish
from djsup.core.backoff import Backoff

if TYPE_CHECKING:
    from djsup.core.actions import Action, KillProcess
    from djsup.core.listeners import Listeners
    from djsup.core.model import Address
    from djsup.core.own_process import OwnProcess


class Server:
    """A process that listens."""

    def __init__(self, process: OwnProcess, listeners: Listeners) -> None:
        self.process = process
        self.error: str | None = None
        """Why its addresses can't be had."""
        self._listeners = listeners
        self._binding = Backoff(process.role.name)
        self._addresses: tuple[Address, ...] = ()

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        times = (self.process.deadline, self._binding.next_at)
        return min((each for each in times if each is not None), default=None)

    def change(self, addresses: tuple[Address, ...]) -> None:
        """From now on it serves these addresses; none: it is not needed."""
        self._addresses = addresses
        self._listeners.want(self.process.owner, addresses)
        self.error = None
        self._binding.reset()
        self._listeners.retry(self.process.owner)

    def bound(self) -> None:
        """One of its addresses is bound."""
        if self._listeners.ready(self.process.owner, self._addresses):
            self.error = None
            self._binding.reset()

    def not_bound(self, address: Address, error: str, now: float) -> list[Action]:
        """One of its addresses can't be bound."""
        self.error = f"cannot listen on {address}: {error}"
        self._binding.failed(now)
        text = f"{self.process.role.name}: {self.error}"
        return [Publish(NoticeKind.LISTENER_FAILED, text, level=Level.ERROR)]

    def end(self, now: float, *, at_once: bool) -> KillProcess | None:
        """The daemon ends."""
        self._listeners.forget(self.process.owner)
        self._addresses = ()
        return self.process.kill() if at_once else self.process.end(now)

    def keep(self, now: float) -> list[Action]:
        """Bind, start or end it, if that is due."""
        owner, out = self.process.owner, []
        if self._binding.next_at is not None and self._binding.allows(now):
            self._binding.hurry()
            self._listeners.retry(owner)
            out += self._listeners.reconcile()
        # One address that is missing keeps no other from being served.
        possible = any(self._listeners.ready(owner, (each,)) for each in self._addresses)
        return out + self.process.keep(now, needed=bool(self._addresses), possible=possible)
