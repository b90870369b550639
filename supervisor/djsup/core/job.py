"""One scheduled command of a site: run when its time has come, at most once at a time.

Knows one command, the run that is on, and how the last one went. It knows no clock on a wall: that
its time has come is an event of the shell's (``djsup/timetable.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.core import death
from djsup.core.events import Exit
from djsup.core.program import State

if TYPE_CHECKING:
    from djsup.core.actions import KillProcess
    from djsup.core.memory import JobLeft
    from djsup.core.model import ProcId, ProgramSettings
    from djsup.core.program import Program


@dataclass(frozen=True, slots=True)
class Result:
    """How a run went."""

    well: bool | None
    """It exited with status 0; None: nobody knows, for its end was that of a process that another daemon had started."""
    text: str
    """One clause: ``exited with status 0 after 1.2 s``."""


class Job:
    """One scheduled command."""

    def __init__(self, settings: ProgramSettings, process: Program) -> None:
        self.settings = settings
        self.process = process
        self.by = ""
        """Who asked for the run that is on."""
        self.runs = 0
        """Runs that have ended."""
        self.last: Result | None = None
        self._began_at = 0.0
        self._timed_out = False

    def remember(self, left: JobLeft) -> None:
        """Go on as another program of the daemon has known it."""
        self.process.remember(left.process)
        self.by, self.runs, self._began_at, self._timed_out = (
            left.by,
            left.runs,
            left.began_at,
            left.timed_out,
        )
        if left.last_text:
            self.last = Result(left.last_well, left.last_text)

    @property
    def memory(self) -> tuple[float, bool]:
        """When the run that is on began, and whether it has taken too long."""
        return self._began_at, self._timed_out

    @property
    def runs_now(self) -> bool:
        """Whether a run is on."""
        return self.process.state is not State.DOWN

    def begin(self, proc: ProcId, by: str, now: float) -> None:
        """A run is asked for."""
        self.process.start(proc)
        self.by = by
        self._began_at = now
        self._timed_out = False

    def end_if_late(self, now: float) -> KillProcess | None:
        """Tell it to end when its timeout has passed, kill it when it did not; None: it has time yet."""
        until = self._until
        if until is not None and now >= until:
            self._timed_out = True
            return self.process.end(now)
        return self.process.kill_if_late(now)

    def ended(self, end: Exit | str, now: float) -> Result:
        """The run is over, or never began for the reason given."""
        asked = not self.process.exited(now)
        self.process.backoff.reset()
        text = end if isinstance(end, str) else death.in_words(end, killed_by_us=asked)
        if self._timed_out:
            text = f"took longer than timeout ({self.settings.timeout_s:g} s) and was stopped: {text}"
        well: bool | None = not isinstance(end, str) and end.status == 0 and not self._timed_out
        if isinstance(end, Exit) and end.status is None and end.signal is None and not asked:
            well = None
        self.runs += 1
        self.last = Result(well, f"{text} after {now - self._began_at:.1f} s")
        return self.last

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        return self.process.deadline if self._until is None else self._until

    @property
    def _until(self) -> float | None:
        """When the run has taken too long; None: it may go on, or was told to end."""
        if self.settings.timeout_s and self.process.state is State.RUNNING:
            return self._began_at + self.settings.timeout_s
        return None
