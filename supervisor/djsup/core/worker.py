"""One worker as the daemon sees it: its states, the table of moves, and when its patience ends.

Knows one process. How many there should be, and which one has to go, is decided in ``pool.py``.
Rule: nothing but ``Worker.move`` sets a worker's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.actions import DrainWorker, KillProcess
from djsup.core.moves import step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import Generation, Limits, Pid, ProcId, Slot

KILL_SLACK_S = 2.0
"""A draining worker ends by itself at its timeout; it is killed this much later."""
EXIT_GRACE_S = 5.0
"""A process that said it failed, or was told to end, is killed after this time."""
PATIENCE_S = 1.0
"""A worker that was told to go counts as living for so long; see ``Worker.counts``."""


class State(Enum):
    """How far a worker has come."""

    STARTING = "starting"
    """Asked for; no pid is known yet."""
    BOOTING = "booting"
    """A process exists and gets ready."""
    FAILED = "failed"
    """It said that it cannot serve, and ends by itself."""
    SERVING = "serving"
    """It accepts connections."""
    OVERDUE = "overdue"
    """A request of it runs too long; it serves until its replacement does."""
    DRAINING = "draining"
    """Told to stop accepting, to finish and to exit."""
    KILLED = "killed"
    """SIGKILL is on its way; its exit is awaited."""
    GONE = "gone"
    """Reaped, or never come to be."""


class Move(Enum):
    """What happens to a worker."""

    STARTED = "started"
    """Its pid is known."""
    LOADED = "loaded"
    """It imported the application by itself (only a worker without a template says so)."""
    READY = "ready"
    """It is healthy and accepts."""
    FAILED = "failed"
    """It said that it cannot serve."""
    OVERDUE = "overdue"
    """A request of it has run too long."""
    DRAIN = "drain"
    """It is told to drain."""
    KILL = "kill"
    """It is killed."""
    EXITED = "exited"
    """It is gone, or never came to be."""


MOVES: Mapping[State, Mapping[Move, State]] = {
    State.STARTING: {
        Move.STARTED: State.BOOTING,
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.BOOTING: {
        Move.LOADED: State.BOOTING,
        Move.READY: State.SERVING,
        Move.FAILED: State.FAILED,
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.FAILED: {
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.SERVING: {
        Move.OVERDUE: State.OVERDUE,
        Move.DRAIN: State.DRAINING,
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.OVERDUE: {
        Move.OVERDUE: State.OVERDUE,  # another request of it
        Move.DRAIN: State.DRAINING,
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.DRAINING: {
        Move.OVERDUE: State.DRAINING,  # the request that it was to finish
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.KILLED: {
        # What it said before the signal came is still read afterwards.
        Move.STARTED: State.KILLED,
        Move.LOADED: State.KILLED,
        Move.READY: State.KILLED,
        Move.FAILED: State.KILLED,
        Move.OVERDUE: State.KILLED,
        Move.KILL: State.KILLED,
        Move.EXITED: State.GONE,
    },
    State.GONE: {},
}


@dataclass(slots=True, eq=False)
class Worker:
    """One worker, from the moment in which it is asked for until it is reaped."""

    proc: ProcId
    generation: Generation
    slot: Slot
    template: ProcId | None
    """The template that forks it; None: it boots by itself."""
    limits: Limits
    """What it was last told."""
    asked_at: float
    state: State = State.STARTING
    pid: Pid | None = None
    ready_at: float | None = None
    leaving_at: float | None = None
    """When it was told to go, or said that it goes."""
    kill_at: float | None = None
    """When the daemon's patience with what it does now ends."""
    overdue: bool = False
    end_asked: bool = False
    """Its end was asked for and is no death."""
    error: str = ""
    """Why it ends, as far as it is known before its exit."""
    details: str = ""
    blamed: bool = False
    """What it did wrong was counted, though its process may be there yet."""
    retiring: str = ""
    """Why it is to be replaced, empty: it is not."""

    def move(self, move: Move) -> None:
        """Take one step in the table.

        Raises:
            UnknownMoveError: this cannot happen now.
        """
        self.state = step(MOVES, self.state, move)

    @property
    def booting(self) -> bool:
        """Whether it is on its way to serve."""
        return self.state is State.STARTING or self.state is State.BOOTING

    @property
    def serving(self) -> bool:
        """Whether it accepts connections and is well."""
        return self.state is State.SERVING

    @property
    def unborn(self) -> bool:
        """Whether its template has yet to fork it; a kill has to wait for that too."""
        return self.template is not None and self.pid is None and self.state in {State.STARTING, State.KILLED}

    def counts(self, now: float) -> bool:
        """Whether it counts as living when the surge is reckoned.

        One that was told to go counts for PATIENCE_S. Most drain within milliseconds, so that a
        roll-over lives with ``promise + surge`` processes; but a worker that finishes a request
        of half a minute does not hold up all others. One that is overdue does not count: it is
        replaced at once, however many are stuck at one time.
        """
        if self.state is State.OVERDUE:
            return False
        if self.leaving_at is None:
            return True
        return not self.overdue and now < self.leaving_at + PATIENCE_S

    def started(self, pid: Pid) -> None:
        """Its pid is known."""
        self.move(Move.STARTED)
        self.pid = pid

    def ready(self, now: float) -> None:
        """It is healthy and accepts."""
        self.move(Move.READY)
        if self.state is State.SERVING:
            self.ready_at = now
            self.kill_at = None

    def failed(self, error: str, details: str, now: float) -> None:
        """It said that it cannot serve; it exits by itself, or is killed for not doing so."""
        self.move(Move.FAILED)
        if self.state is State.FAILED:
            self.error, self.details = error, details
            self.leaving_at = now
            self.kill_at = now + EXIT_GRACE_S

    def became_overdue(self, limits: Limits, now: float) -> None:
        """A request of it has run too long: it is gone when ``drain_timeout`` has passed."""
        self.move(Move.OVERDUE)
        self.overdue = True
        if self.state is State.OVERDUE and self.kill_at is None:
            self.kill_at = now + limits.drain_timeout_s + KILL_SLACK_S

    def drain(self, handover_to: Generation | None, timeout_s: float, now: float) -> DrainWorker:
        """Tell it to finish and go."""
        self.move(Move.DRAIN)
        self.end_asked = True
        self.leaving_at = now
        kill_at = now + timeout_s + KILL_SLACK_S
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        return DrainWorker(self.proc, handover_to, timeout_s)

    def kill(self, now: float, *, error: str = "") -> KillProcess:
        """End it at once. With an error it is the worker's fault, and its end is a death."""
        self.move(Move.KILL)
        if not error and not self.error:
            self.end_asked = True
        elif not self.end_asked:
            self.error = error or self.error
        if self.leaving_at is None:
            self.leaving_at = now
        if not self.unborn:
            self.kill_at = None
        return KillProcess(self.proc, "SIGKILL")

    def exited(self) -> None:
        """It is gone, or never came to be."""
        self.move(Move.EXITED)
        self.kill_at = None
