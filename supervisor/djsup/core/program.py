"""One helper process that is kept running: at present the dashboard's.

Knows one process and its backoff: states, the table of moves, when it is started again.
Rule: nothing but ``Program._move`` sets its state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.actions import KillProcess
from djsup.core.backoff import Backoff
from djsup.core.moves import step
from djsup.core.worker import EXIT_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import Pid, ProcId

STABLE_AFTER_S = 10.0
"""A program that lived longer and died is started again at once."""


class State(Enum):
    """How a program is."""

    DOWN = "down"
    """It does not run; it is started when it is wanted and its time has come."""
    STARTING = "starting"
    """Asked for; no pid is known yet."""
    RUNNING = "running"
    """A process exists."""
    ENDING = "ending"
    """Told to end by SIGTERM."""
    KILLED = "killed"
    """SIGKILL is on its way; its exit is awaited."""


class Move(Enum):
    """What happens to a program."""

    START = "start"
    """It is asked for."""
    STARTED = "started"
    """Its pid is known."""
    END = "end"
    """It is told to end."""
    KILL = "kill"
    """It is killed."""
    EXITED = "exited"
    """It is gone, or never came to be."""


MOVES: Mapping[State, Mapping[Move, State]] = {
    State.DOWN: {Move.START: State.STARTING},
    State.STARTING: {
        Move.STARTED: State.RUNNING,
        Move.END: State.ENDING,
        Move.KILL: State.KILLED,
        Move.EXITED: State.DOWN,
    },
    State.RUNNING: {Move.END: State.ENDING, Move.KILL: State.KILLED, Move.EXITED: State.DOWN},
    State.ENDING: {Move.STARTED: State.ENDING, Move.KILL: State.KILLED, Move.EXITED: State.DOWN},
    State.KILLED: {Move.STARTED: State.KILLED, Move.EXITED: State.DOWN},
}


class Program:
    """One program: wanted or not, running or not."""

    def __init__(self, name: str) -> None:
        self.wanted = False
        self.state = State.DOWN
        self.proc: ProcId | None = None
        self.pid: Pid | None = None
        self.backoff = Backoff(name)
        self._started_at: float | None = None
        self._end_asked = False
        self._kill_at: float | None = None

    def _move(self, move: Move) -> None:
        self.state = step(MOVES, self.state, move)

    def may_start(self, now: float) -> bool:
        """Whether it is wanted, does not run, and its time has come."""
        return self.wanted and self.state is State.DOWN and self.backoff.allows(now)

    def start(self, proc: ProcId) -> None:
        """It is asked for under this name."""
        self._move(Move.START)
        self.proc = proc
        self._end_asked = False
        self._started_at = None

    def started(self, pid: Pid, now: float) -> None:
        """Its pid is known."""
        self._move(Move.STARTED)
        self.pid = pid
        self._started_at = now

    def end(self, now: float) -> KillProcess | None:
        """Ask it to end; None: it does not run, or was asked already."""
        if self.proc is None or self.state not in {State.STARTING, State.RUNNING}:
            return None
        self._move(Move.END)
        self._end_asked = True
        self._kill_at = now + EXIT_GRACE_S
        return KillProcess(self.proc, "SIGTERM")

    def kill(self) -> KillProcess | None:
        """End it at once; None: it does not run, or was killed already."""
        if self.proc is None or self.state in {State.DOWN, State.KILLED}:
            return None
        self._move(Move.KILL)
        self._end_asked = True
        self._kill_at = None
        return KillProcess(self.proc, "SIGKILL")

    def kill_if_late(self, now: float) -> KillProcess | None:
        """End it at once when it was asked to and did not; None: it has time yet."""
        return self.kill() if self._kill_at is not None and now >= self._kill_at else None

    def exited(self, now: float) -> bool:
        """It is gone, or never came to be. Gives whether that was a death, nobody having asked for it."""
        self._move(Move.EXITED)
        self.proc = self.pid = self._kill_at = None
        if self._end_asked or (self._started_at is not None and now - self._started_at >= STABLE_AFTER_S):
            self.backoff.reset()
        else:
            self.backoff.failed(now)
        return not self._end_asked

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        if self._kill_at is not None:
            return self._kill_at
        return self.backoff.next_at if self.wanted and self.state is State.DOWN else None
