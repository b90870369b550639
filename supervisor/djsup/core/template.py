"""One template as the daemon sees it: its states, the table of moves, and when its patience ends.

Knows one process. When a template is needed is decided in ``pool.py``.
Rule: nothing but ``Template.move`` sets a template's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.actions import KillProcess
from djsup.core.moves import step
from djsup.core.worker import EXIT_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import Generation, Pid, ProcId


class State(Enum):
    """How far a template has come."""

    STARTING = "starting"
    """Asked for; no pid is known yet."""
    LOADING = "loading"
    """A process exists and imports the application."""
    LOADED = "loaded"
    """It forks workers when asked to."""
    FAILED = "failed"
    """It said that the application cannot be imported, and ends by itself."""
    ENDING = "ending"
    """Told to end by SIGTERM: it is not needed any more."""
    KILLED = "killed"
    """SIGKILL is on its way; its exit is awaited."""
    GONE = "gone"
    """Reaped, or never come to be."""


class Move(Enum):
    """What happens to a template."""

    STARTED = "started"
    """Its pid is known."""
    LOADED = "loaded"
    """It imported the application."""
    FAILED = "failed"
    """It said that it could not."""
    END = "end"
    """It is told to end."""
    KILL = "kill"
    """It is killed."""
    EXITED = "exited"
    """It is gone, or never came to be."""


_LEAVING: Mapping[Move, State] = {Move.KILL: State.KILLED, Move.EXITED: State.GONE}

MOVES: Mapping[State, Mapping[Move, State]] = {
    State.STARTING: {Move.STARTED: State.LOADING, **_LEAVING},
    State.LOADING: {Move.LOADED: State.LOADED, Move.FAILED: State.FAILED, **_LEAVING},
    State.LOADED: {Move.END: State.ENDING, **_LEAVING},
    State.FAILED: _LEAVING,
    State.ENDING: _LEAVING,
    State.KILLED: {
        # What it said before the signal came is still read afterwards.
        Move.STARTED: State.KILLED,
        Move.LOADED: State.KILLED,
        Move.FAILED: State.KILLED,
        **_LEAVING,
    },
    State.GONE: {},
}


@dataclass(slots=True, eq=False)
class Template:
    """One template, from the moment in which it is asked for until it is reaped."""

    proc: ProcId
    generation: Generation
    kill_at: float | None
    """When the daemon's patience with what it does now ends; at first: asked + ``boot_timeout``."""
    state: State = State.STARTING
    pid: Pid | None = None
    end_asked: bool = False
    """Its end was asked for and is no death."""
    error: str = ""
    details: str = ""

    def move(self, move: Move) -> None:
        """Take one step in the table.

        Raises:
            UnknownMoveError: this cannot happen now.
        """
        self.state = step(MOVES, self.state, move)

    def started(self, pid: Pid) -> None:
        """Its pid is known."""
        self.move(Move.STARTED)
        self.pid = pid

    def loaded(self) -> None:
        """It imported the application."""
        self.move(Move.LOADED)
        self.kill_at = None

    def failed(self, error: str, details: str, now: float) -> None:
        """It could not import the application; it exits by itself, or is killed for not doing so."""
        self.move(Move.FAILED)
        if self.state is State.FAILED:
            self.error, self.details = error, details
            self.kill_at = now + EXIT_GRACE_S

    def end(self, now: float) -> KillProcess | None:
        """It is not needed any more: ask it to go, or kill it where it could not hear; None: it goes already."""
        if self.state is State.LOADED:
            self.move(Move.END)
            self.end_asked = True
            self.kill_at = now + EXIT_GRACE_S
            return KillProcess(self.proc, "SIGTERM")
        if self.state in {State.STARTING, State.LOADING}:
            return self.kill(now)
        return None

    def kill(self, _now: float, *, error: str = "") -> KillProcess:
        """End it at once. With an error it is the template's fault, and its end is a death."""
        self.move(Move.KILL)
        if error:
            self.error = error
        elif not self.error:
            self.end_asked = True
        self.kill_at = None
        return KillProcess(self.proc, "SIGKILL")

    def exited(self) -> None:
        """It is gone, or never came to be."""
        self.move(Move.EXITED)
        self.kill_at = None
