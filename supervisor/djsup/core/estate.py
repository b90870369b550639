"""What a daemon leaves behind when it is killed: one site's processes as they were, for the next daemon.

Frozen values, written down by the shell at every change and read by the daemon that is started again. Says
what there is; what is done about it is decided in ``pool.py``, by the same reconciliation as ever.
A rollout is no part of it: what it had started is ended, and a reload that ran is begun again. A daemon that replaces
its own program hands over the same values, and its ``Memory`` with each, by which everything goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

# The shell decodes these values, and needs the types for it.
from djsup.core.memory import Memory, ProcessLeft, ProgramsLeft  # noqa: TC001
from djsup.core.model import Generation, Limits, Pid, ProcId, SiteSettings, Slot  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stage(Enum):
    """How far a worker had come."""

    BOOTING = "booting"
    """It got ready; it may be by now."""
    SERVING = "serving"
    """It accepts connections, as far as is known."""
    LEAVING = "leaving"
    """It was told to go, or has failed."""


@dataclass(frozen=True, slots=True)
class TemplateLeft:
    """A template whose pid is known."""

    proc: ProcId
    pid: Pid
    generation: Generation
    loaded: bool
    """It forks workers when asked to."""


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A worker whose pid is known."""

    proc: ProcId
    pid: Pid
    generation: Generation
    slot: Slot
    stage: Stage
    limits: Limits
    """What it was last told."""
    asked_at: float
    ready_at: float | None
    kill_at: float | None = None
    """When the patience with one that leaves ends; None: it does not leave, or an earlier version wrote this."""


@dataclass(frozen=True, slots=True)
class GenerationLeft:
    """A generation of which anything is left."""

    number: Generation
    settings: SiteSettings
    forks: bool
    note: str = ""
    python: str = ""
    django: str = ""


@dataclass(frozen=True, slots=True)
class Estate:
    """What is left of one site."""

    settings: SiteSettings
    """What the site was to be; the serving generation may have been loaded with others."""
    serving: Generation | None
    """None: none had proved itself, or its sockets are lost; whatever is left ends."""
    last: int
    """The highest number of a generation that was used."""
    generations: tuple[GenerationLeft, ...] = ()
    templates: tuple[TemplateLeft, ...] = ()
    workers: tuple[WorkerLeft, ...] = ()
    by_hand: int | None = None
    reloading: str | None = None
    """Who wants a reload that has not ended; None: nobody."""
    canary_s: float | None = None
    """For how long its code is to be tried; None: as the settings say."""
    programs: ProgramsLeft | None = None
    """Its programs, as far as they outlive the daemon; None: it has none, or ``memory`` has them."""
    stopped_by: str | None = None
    """Who has stopped it, and it is to stay so; None: nobody."""
    memory: Memory | None = None
    """What is known beside this, where the daemon was not killed but replaces its own program."""

    @property
    def processes(self) -> Iterator[TemplateLeft | WorkerLeft]:
        """Templates and workers: those that call the next daemon."""
        yield from self.templates
        yield from self.workers

    @property
    def helpers(self) -> Iterator[ProcessLeft]:
        """The processes of programs that were asked for, with a pid or not yet: those that a keeper holds."""
        if self.programs is not None:
            yield from (each for each in self.programs.processes if each.proc is not None)

    @property
    def pids(self) -> Iterator[tuple[ProcId, Pid]]:
        """Everything that is left, by name, and its pid."""
        yield from ((each.proc, each.pid) for each in self.processes)
        for each in self.helpers:
            if each.proc is not None and each.pid is not None:
                yield each.proc, each.pid
