"""A site that nobody uses sleeps: its workers are drained, later its template ends too; a connection wakes it.

Knows how one site sleeps, and when it was used. Only a site that may have no worker (``min = 0``) sleeps, and
only when all its workers serve, no connection is open and no reload runs. The rules that bind here:

1. While it sleeps the shell watches its listeners and accepts nothing: what connects waits in the kernel's
   queue for the first worker, and nothing of it is lost. A listener is watched for one connection at a
   time: a site that cannot wake would otherwise keep the daemon awake for ever.
2. One that was woken tries to serve by the rules of every other site (``backoff.py``), and does not sleep
   before it has been idle for ``sleep_after``.
3. A reload wakes a site, to prove the new code. One that is cold has no code loaded: it stays cold, and the
   next connection loads what is there then. Only what it needs bound is bound at once.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from djsup.core import moves
from djsup.core.actions import NoticeKind, UnwatchListener, WatchListener
from djsup.core.rollout import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from djsup.core.events import LoadSampled
    from djsup.core.generations import Generations
    from djsup.core.listeners import Listeners
    from djsup.core.model import Address
    from djsup.core.site import Site
    from djsup.core.workers import Workers


class State(Enum):
    """How deep a site sleeps."""

    AWAKE = "awake"
    """It serves, or is on its way to."""
    ASLEEP = "asleep"
    """It has no workers; its template can fork one at once."""
    COLD = "cold"
    """Nothing of it is loaded."""


class Move(Enum):
    """What happens to its sleep."""

    SLEEP = "sleep"
    """Nobody has used it for long enough."""
    HIBERNATE = "hibernate"
    """It has slept for long enough to do without its template, or has lost it, or begins so."""
    WAKE = "wake"
    """A connection waits, or an operator wants it awake."""


MOVES: Mapping[State, Mapping[Move, State]] = {
    State.AWAKE: {Move.SLEEP: State.ASLEEP, Move.HIBERNATE: State.COLD},
    State.ASLEEP: {Move.HIBERNATE: State.COLD, Move.WAKE: State.AWAKE},
    State.COLD: {Move.WAKE: State.AWAKE},
}


class Sleep:
    """The sleep of one site."""

    def __init__(self, site: Site, workers: Workers, generations: Generations, listeners: Listeners) -> None:
        self._site = site
        self._workers = workers
        self._generations = generations
        self._listeners = listeners
        self.state = State.AWAKE
        self.lies_down = site.settings.scaling.start_asleep and site.settings.workers.least == 0
        """It is to be cold as soon as its addresses are bound."""
        self._used_at: float | None = None
        """When it was last seen in use; None: nobody has looked since it woke."""
        self._requests = 0
        self._since = 0.0
        """Since when it sleeps."""
        self._watched: frozenset[Address] = frozenset()

    # --- questions -----------------------------------------------------------------------------

    @property
    def cold(self) -> bool:
        """Whether nothing of it is loaded, nor is to be."""
        return self.state is State.COLD

    def deadlines(self) -> Iterator[float]:
        """When it goes cold."""
        if self.state is State.ASLEEP:
            yield self._cold_at

    @property
    def since(self) -> float:
        """Since when it sleeps."""
        return self._since

    @property
    def _cold_at(self) -> float:
        return self._since + self._site.settings.scaling.hibernate_after_s

    # --- facts ---------------------------------------------------------------------------------

    def weigh(self, sample: LoadSampled, now: float) -> None:
        """Note whether it is used, and let it sleep when it has not been for long enough."""
        site, generations = self._site, self._generations
        used = sample.busy_threads or sample.waiting or sample.connections
        if used or sample.requests != self._requests or self._used_at is None:
            self._used_at, self._requests = now, sample.requests
        if generations.rollout is not None or generations.serving is None or site.by_hand is not None:
            self._used_at = now
        policy = site.settings.scaling
        idle = site.settings.workers.least == 0 and now - self._used_at >= policy.sleep_after_s
        ready = self.state is State.AWAKE and all(each.serving for each in self._workers.by_proc.values())
        if idle and ready:
            self._move(Move.SLEEP, now)
            text = f"sleeps: no request and no connection for {policy.sleep_after_s:g} s"
            site.notices.say(NoticeKind.SITE_SLEEPS, text)

    def connection_waits(self, address: Address) -> None:
        """Somebody connected to a listener that was watched; it is not any more."""
        self._watched -= {address}
        if self._site.asleep:
            self.wake(f"a connection waits on {address}")

    def request_waits(self) -> None:
        """Somebody wants it at a shared address, where the router waits with the request."""
        if self._site.asleep:
            self.wake("a request waits at a shared address")

    def wake(self, why: str = "", by: str = "") -> None:
        """It is to serve, or to end; with a reason, that is said. Awake already: nothing."""
        self.lies_down = False
        self._used_at = None
        if self.state is not State.AWAKE:
            deep = " from cold" if self.cold else ""
            self._move(Move.WAKE)
            if why:
                self._site.notices.say(NoticeKind.SITE_WAKES, f"wakes{deep}: {why}", by=by)

    def change(self, *, bound_anew: bool) -> None:
        """Its table has changed: it may not sleep any more, or has to be bound elsewhere first."""
        self._used_at = None
        if self._site.settings.workers.least > 0:
            self.wake("it is to have workers at all times")
        elif self.cold and bound_anew:
            self._move(Move.WAKE)
            self.lies_down = True

    def remember(self, state: State, since: float, *, lies_down: bool) -> None:
        """Go on as another program of the daemon has known it; its listeners are to be watched anew."""
        self.state, self._since, self.lies_down = state, since, lies_down
        self._site.asleep = state is not State.AWAKE

    # --- what should be against what is --------------------------------------------------------

    def look(self, now: float) -> None:
        """Go cold when that is due, or when the template is lost that it would wake from."""
        if self.state is State.ASLEEP and (now >= self._cold_at or self._generations.needs_load):
            self._hibernate("it has slept for long" if now >= self._cold_at else "its template is lost", now)

    def lie_down(self, now: float) -> None:
        """Go cold at the start, once the addresses are bound: until then it is one more site that starts."""
        rollout = self._generations.rollout
        if not self.lies_down or rollout is None or rollout.phase is not Phase.BINDING:
            return
        if self._listeners.ready(self._site.name, rollout.settings.listen):
            self.lies_down = False
            self._hibernate("its first connection loads it", now)

    def watch(self, *, running: bool) -> None:
        """Rule 1: have the listeners of a site that sleeps watched, and no others."""
        wanted: frozenset[Address] = frozenset()
        if running and self._site.asleep:
            addresses = self._generations.addresses()
            wanted = frozenset(each for each in addresses if self._listeners.ready(self._site.name, (each,)))
        for address in sorted(self._watched - wanted, key=str):
            self._site.do(UnwatchListener(address))
        for address in sorted(wanted - self._watched, key=str):
            self._site.do(WatchListener(address))
        self._watched = wanted

    def _hibernate(self, why: str, now: float) -> None:
        self._move(Move.HIBERNATE, now)
        self._generations.let_go("the site sleeps", now)
        self._site.notices.say(NoticeKind.SITE_COLD, f"is cold, nothing of it is loaded: {why}")

    def _move(self, move: Move, now: float = 0.0) -> None:
        """Take one step in the table.

        Raises:
            UnknownMoveError: this cannot happen now.
        """
        if self.state is State.AWAKE:
            self._since = now
        self.state = moves.step(MOVES, self.state, move)
        self._site.asleep = self.state is not State.AWAKE
        self._site.error = None
        self._site.scaling.go_on_from(1)
