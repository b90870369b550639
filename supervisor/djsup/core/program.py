"""One helper process that is kept running: one of djsup's own, or one instance of a site's program.

Knows one process, its patience and its backoff: states, the table of moves, when it is started
again. A scheduled command (``job.py``) uses it too, and does not have it started again. Whether a
program is wanted is decided in ``programs.py``, and of djsup's own ones (``own_process.py``) in ``server.py`` and ``keeper.py``.
Rule: nothing but ``Program._move`` sets its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.actions import KillProcess
from djsup.core.backoff import Backoff
from djsup.core.moves import step
from djsup.core.worker import EXIT_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.memory import ProcessLeft
    from djsup.core.model import Limits, Pid, ProcId, ProgramSettings

STABLE_AFTER_S = 10.0
"""A program that lived longer and died is started again at once."""


class State(Enum):
    """How a program is."""

    DOWN = "down"
    """It does not run; it is started when it is wanted and its time has come."""
    STARTING = "starting"
    """Asked for; no pid is known yet."""
    BOOTING = "booting"
    """A process exists; that it is ready, it is to say by itself."""
    RUNNING = "running"
    """A process exists, and is ready as far as anybody can know."""
    ENDING = "ending"
    """Told to end by a signal."""
    KILLED = "killed"
    """SIGKILL is on its way; its exit is awaited."""


class Move(Enum):
    """What happens to a program."""

    START = "start"
    """It is asked for."""
    STARTED = "started"
    """Its pid is known."""
    READY = "ready"
    """It said that it is ready, or need not say so."""
    END = "end"
    """It is told to end."""
    KILL = "kill"
    """It is killed."""
    EXITED = "exited"
    """It is gone, or never came to be."""


_LEAVE: Mapping[Move, State] = {Move.END: State.ENDING, Move.KILL: State.KILLED, Move.EXITED: State.DOWN}

MOVES: Mapping[State, Mapping[Move, State]] = {
    State.DOWN: {Move.START: State.STARTING},
    State.STARTING: {Move.STARTED: State.BOOTING, **_LEAVE},
    State.BOOTING: {Move.READY: State.RUNNING, **_LEAVE},
    State.RUNNING: _LEAVE,
    State.ENDING: {Move.STARTED: State.ENDING, Move.KILL: State.KILLED, Move.EXITED: State.DOWN},
    State.KILLED: {Move.STARTED: State.KILLED, Move.EXITED: State.DOWN},
}

ALIVE = frozenset({State.STARTING, State.BOOTING, State.RUNNING})
"""Nobody has told it to end."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How a process is to be treated; the defaults are the dashboard's."""

    stop_signal: str = "SIGTERM"
    stop_timeout_s: float = EXIT_GRACE_S
    """It is killed so long after it was told to end."""
    stable_after_s: float = STABLE_AFTER_S
    notify: bool = False
    """It says by itself that it is ready, within ``start_timeout_s``."""
    start_timeout_s: float = 0.0
    watchdog_s: float = 0.0
    """It says that it is alive more often than this; 0: it need not."""

    @staticmethod
    def of(program: ProgramSettings, limits: Limits) -> Manners:
        """How a site's program is to be treated."""
        return Manners(
            f"SIG{program.stop_signal}",
            program.stop_timeout_s,
            limits.stable_after_s,
            program.notify,
            program.start_timeout_s,
            program.watchdog_s,
        )


class Program:
    """One program: wanted or not, running or not."""

    def __init__(self, name: str, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.wanted = False
        self.state = State.DOWN
        self.proc: ProcId | None = None
        self.pid: Pid | None = None
        self.started_at: float | None = None
        """When its pid was known."""
        self.fault = ""
        """What it did wrong while it ran, so that it was told to end; empty: nothing."""
        self.backoff = Backoff(name)
        self._steady_since: float | None = None
        self._end_asked = False
        self._late_at: float | None = None
        """When patience with it ends: to be ready, to be alive, or to be gone, by its state."""

    def _move(self, move: Move) -> None:
        self.state = step(MOVES, self.state, move)

    def may_start(self, now: float) -> bool:
        """Whether it is wanted, does not run, and its time has come."""
        return self.wanted and self.state is State.DOWN and self.backoff.allows(now)

    def start(self, proc: ProcId) -> None:
        """It is asked for under this name."""
        self._move(Move.START)
        self.proc = proc
        self.fault = ""
        self._end_asked = False
        self._steady_since = self.started_at = self._late_at = None

    def started(self, pid: Pid, now: float) -> None:
        """Its pid is known."""
        self._move(Move.STARTED)
        self.pid = pid
        self.started_at = now
        if self.state is State.BOOTING:
            if self.manners.notify:
                self._late_at = now + self.manners.start_timeout_s
            else:
                self.ready(now)

    def ready(self, now: float) -> bool:
        """It says that it is ready. Gives whether that is news."""
        if self.state is not State.BOOTING:
            return False
        self._move(Move.READY)
        self._steady_since = now
        self._late_at = now + self.manners.watchdog_s if self.manners.watchdog_s else None
        return True

    def alive(self, now: float) -> None:
        """It says that it is alive."""
        if self.state is State.RUNNING and self.manners.watchdog_s:
            self._late_at = now + self.manners.watchdog_s

    def end(self, now: float) -> KillProcess | None:
        """Ask it to end; None: it does not run, or was asked already."""
        if self.proc is None or self.state not in ALIVE:
            return None
        self._end_asked = True
        return self._leave(self.proc, self.manners.stop_signal, now)

    def _leave(self, proc: ProcId, signal: str, now: float) -> KillProcess:
        self._move(Move.END)
        self._late_at = now + self.manners.stop_timeout_s
        return KillProcess(proc, signal)

    def kill(self) -> KillProcess | None:
        """End it at once; None: it does not run, or was killed already."""
        if self.proc is None or self.state in {State.DOWN, State.KILLED}:
            return None
        self._move(Move.KILL)
        self._end_asked = self._end_asked or not self.fault
        self._late_at = None
        return KillProcess(self.proc, "SIGKILL")

    def kill_if_late(self, now: float) -> KillProcess | None:
        """End it when patience with it ends, at once when it was told to end before; None: it has time yet.

        A program that is silent gets SIGABRT, as from systemd: Python's faulthandler writes its stacks.
        """
        if self.proc is None or self._late_at is None or now < self._late_at:
            return None
        if self.state is State.BOOTING:
            self.fault = f"did not say READY=1 within start_timeout ({self.manners.start_timeout_s:g} s)"
            return self._leave(self.proc, self.manners.stop_signal, now)
        if self.state is State.RUNNING:
            self.fault = f"did not say WATCHDOG=1 for {self.manners.watchdog_s:g} s"
            return self._leave(self.proc, "SIGABRT", now)
        return self.kill()

    def exited(self, now: float) -> bool:
        """It is gone, or never came to be. Gives whether that was a death, nobody having asked for it."""
        self._move(Move.EXITED)
        self.proc = self.pid = self._late_at = None
        steady = self._steady_since is not None and now - self._steady_since >= self.manners.stable_after_s
        if self._end_asked or steady:
            self.backoff.reset()
        else:
            self.backoff.failed(now)
        return not self._end_asked

    def vanished(self) -> None:
        """It has gone while no daemon was there, or with one. Nobody knows why, so it counts neither way."""
        self._move(Move.EXITED)
        self.proc = self.pid = self._late_at = None

    def remember(self, left: ProcessLeft) -> None:
        """Go on as another program of the daemon has known it."""
        self.state, self.proc, self.pid = left.state, left.proc, left.pid
        self.started_at, self.fault = left.started_at, left.fault
        self._steady_since, self._late_at, self._end_asked = left.steady_since, left.late_at, left.end_asked
        self.backoff.remember(left.failures)

    def adopted(self, now: float) -> None:
        """An earlier daemon has started it: it gets its time anew for what that one has waited for."""
        if self.state is State.STARTING and self.pid is not None:
            self.started(self.pid, now)
        elif self.state is State.BOOTING:
            self._late_at = now + self.manners.start_timeout_s
        elif self.state is State.RUNNING:
            self._late_at = now + self.manners.watchdog_s if self.manners.watchdog_s else None
        elif self.state is State.ENDING and self._late_at is None:
            self._late_at = now + self.manners.stop_timeout_s

    @property
    def memory(self) -> tuple[float | None, float | None, bool]:
        """Since when it is steady, when patience with it ends, and whether its end was asked for."""
        return self._steady_since, self._late_at, self._end_asked

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        if self.state is State.DOWN:
            return self.backoff.next_at if self.wanted else None
        return self._late_at
