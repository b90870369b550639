"""The adoption of programs: they cannot call as workers do, so they are looked for.

Which there were, the earlier daemon has written down (``shell/estates.py``). What they print and say comes from its keeper,
and so does what pins each of them. One without a keeper prints to nobody: it is told to end, and started anew. One that
the keeper has and nobody has written down was started in the daemon's last moment: it is killed, for nobody knows what it is
to be, and it might be started a second time.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djsup import launch, sessions
from djsup.core.actions import Level
from djsup.core.model import Pid
from djsup.core.program import ALIVE, State
from djsup.keeper.letters import PIDFD, Conversation
from djsup.shell.estates import pin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from djsup.core.estate import Estate
    from djsup.core.memory import InstanceLeft, JobLeft, ProcessLeft
    from djsup.core.model import Generation, ProcId, ProgramSettings, SiteName
    from djsup.keeper.letters import Kept
    from djsup.performer import Performer


@dataclass(frozen=True, slots=True)
class HelperLeft:
    """The process of a program, as the performer has to know it."""

    proc: ProcId
    pid: Pid
    site: SiteName
    generation: Generation
    settings: ProgramSettings
    """What it was started with."""
    number: int

    @property
    def label(self) -> str:
        """As ``celery/0``."""
        return f"{self.settings.name}/{self.number}"


class ProgramAdoption:
    """The taking over of programs, at the start of a daemon."""

    def __init__(self, keeper: Path, performer: Performer) -> None:
        self._path = keeper
        self._performer = performer
        self._talk: Conversation | None = None
        self._taken: set[Pid] = set()

    def ask(self) -> None:
        """Have the keeper of an earlier daemon, if there is one, give what it has."""
        self._talk = Conversation(self._path)

    def take(self, estate: Estate, born: Mapping[Pid, int]) -> Estate:
        """Watch over a site's programs from now on. Gives the estate as it is now."""
        left = estate.programs
        if left is None:
            return estate
        now: dict[ProcId | None, ProcessLeft] = {}
        for each in left.kept:
            settings = each.runs_with or each.settings
            now |= self._take(estate, each, settings, each.number, each.generation, born)
        for job in left.jobs:
            now |= self._take(estate, job, job.settings, 0, left.generation, born)
        return replace(
            estate,
            programs=left.with_processes(lambda process: now.get(process.proc, process)),
        )

    def _take(
        self,
        estate: Estate,
        helper: InstanceLeft | JobLeft,
        settings: ProgramSettings,
        number: int,
        generation: Generation,
        born: Mapping[Pid, int],
    ) -> dict[ProcId | None, ProcessLeft]:
        """Watch over one. Gives it by its name, as it is now: without a pid it is gone."""
        left = helper.process
        if left.proc is None:
            return {}
        given = {} if self._talk is None else self._talk.kept
        kept = given.get(left.proc)
        if kept is not None and left.pid in {None, kept.pid}:
            del given[left.proc]
            pid, pidfd = Pid(kept.pid), kept.fds.get(PIDFD)
        else:
            kept, pid = None, left.pid or Pid(0)
            pidfd = pin(pid, born.get(pid))
        if pidfd is None or pid in self._taken:
            if kept is not None:
                kept.close()
            elif pidfd is not None:
                os.close(pidfd)
            elif left.pid is not None:
                sessions.kill_marked(left.pid, launch.marks(estate.settings.name, settings))
            return {left.proc: replace(left, pid=None)}
        self._taken.add(pid)
        one = HelperLeft(left.proc, pid, estate.settings.name, generation, settings, number)
        told = kept is not None and kept.told
        if kept is None and left.state in ALIVE:
            self._let_go(one, pidfd)
            told = True
        self._performer.adopt_program(one, kept, pidfd)
        if told and left.state in ALIVE:
            left = replace(left, state=State.ENDING, end_asked=True)
        return {left.proc: replace(left, pid=pid)}

    def _let_go(self, one: HelperLeft, pidfd: int) -> None:
        text = (
            f'site "{one.site}": program {one.label} (pid {one.pid}) is left by an earlier daemon without a keeper, so '
            "nobody reads what it prints: it is told to end, and started anew"
        )
        self._performer.say("adoption", text, Level.WARNING, one.site)
        with suppress(OSError):
            signal.pidfd_send_signal(pidfd, signal.Signals[f"SIG{one.settings.stop_signal}"])

    def kill_others(self) -> None:
        """End what the keeper has and no site knows of."""
        for proc, kept in ({} if self._talk is None else self._talk.kept).items():
            self._kill(proc, kept)

    def _kill(self, proc: int, kept: Kept) -> None:
        """The keeper has it pinned until it is told that it may end."""
        lives = PIDFD in kept.fds and not select.select([kept.fds[PIDFD]], [], [], 0)[0]
        (sessions.kill if lives else sessions.kill_rest)(kept.pid)
        kept.close()
        if not lives:
            return
        text = f"process {proc} (pid {kept.pid}) is a program that no site knows of: an earlier daemon had just started it; it is killed"
        self._performer.say("adoption", text, Level.WARNING)

    def over(self) -> None:
        """What was taken is in the next keeper's hands, too: the one of before may end."""
        if self._talk is not None:
            self._talk.over()
            self._talk = None

    def close(self) -> None:
        """The daemon ends."""
        if self._talk is not None:
            self._talk.close()
