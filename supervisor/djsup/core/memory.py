"""What a daemon knows beside what it leaves behind: handed to the program that replaces it in the same process.

Frozen values, as those of ``estate.py``, which says what the processes are. A daemon that is killed takes this with it;
one that replaces its own program hands it over, so that whatever it was doing goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

# The shell decodes these values, and needs the types for it.
from djsup.core.canary import Trial  # noqa: TC001
from djsup.core.hooks import Hook  # noqa: TC001
from djsup.core.model import Canary, Generation, Pid, ProcId, ProgramSettings, SiteSettings  # noqa: TC001
from djsup.core.program import State  # noqa: TC001
from djsup.core.rollout import Phase  # noqa: TC001
from djsup.core.sleep import State as SleepState  # noqa: TC001
from djsup.core.snapshot import ReloadReport  # noqa: TC001
from djsup.core.template import State as TemplateState  # noqa: TC001
from djsup.core.worker import State as WorkerState  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djsup.core.backoff import Backoff
    from djsup.core.job import Job
    from djsup.core.program import Program
    from djsup.core.worker import Worker


@dataclass(frozen=True, slots=True)
class FailuresLeft:
    """Failures in a row, as ``backoff.py`` counts them."""

    count: int = 0
    failed_at: float | None = None
    next_at: float | None = None

    @staticmethod
    def of(row: Backoff) -> FailuresLeft:
        """As they are now."""
        return FailuresLeft(row.count, row.failed_at, row.next_at)


@dataclass(frozen=True, slots=True)
class WorkerKnown:
    """One worker, in all that is known of it beside its ``WorkerLeft``."""

    proc: ProcId
    state: WorkerState
    kill_at: float | None
    leaving_at: float | None
    overdue: bool
    end_asked: bool
    blamed: bool
    error: str
    details: str
    retiring: str

    @staticmethod
    def of(each: Worker) -> WorkerKnown:
        """As it is now."""
        return WorkerKnown(
            each.proc,
            each.state,
            each.kill_at,
            each.leaving_at,
            each.overdue,
            each.end_asked,
            each.blamed,
            each.error,
            each.details,
            each.retiring,
        )


@dataclass(frozen=True, slots=True)
class TemplateKnown:
    """One template, in all that is known of it beside its ``TemplateLeft``."""

    generation: Generation
    state: TemplateState
    kill_at: float | None
    end_asked: bool
    error: str
    details: str


@dataclass(frozen=True, slots=True)
class RolloutLeft:
    """A reload that runs, or a first load."""

    generation: Generation
    settings: SiteSettings
    by: str
    reported: bool
    began_at: float
    phase: Phase
    proof: ProcId | None
    canary_s: float | None = None
    canary: Canary | None = None
    trial: Trial | None = None
    verdict: str = ""
    hooks: bool = False
    hook: Hook | None = None
    waits_since: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessLeft:
    """The process of a program or of the dashboard, running or not."""

    state: State
    proc: ProcId | None
    pid: Pid | None
    started_at: float | None
    steady_since: float | None
    late_at: float | None
    fault: str
    end_asked: bool
    failures: FailuresLeft

    @staticmethod
    def of(process: Program) -> ProcessLeft:
        """As it is now."""
        steady_since, late_at, end_asked = process.memory
        return ProcessLeft(
            process.state,
            process.proc,
            process.pid,
            process.started_at,
            steady_since,
            late_at,
            process.fault,
            end_asked,
            FailuresLeft.of(process.backoff),
        )


@dataclass(frozen=True, slots=True)
class InstanceLeft:
    """One instance of a program that is kept running."""

    settings: ProgramSettings
    number: int
    generation: Generation
    process: ProcessLeft
    runs_with: ProgramSettings | None
    status: str


@dataclass(frozen=True, slots=True)
class JobLeft:
    """One scheduled command."""

    settings: ProgramSettings
    process: ProcessLeft
    by: str
    runs: int
    began_at: float
    timed_out: bool
    last_well: bool | None
    last_text: str

    @staticmethod
    def of(one: Job) -> JobLeft:
        """As it is now."""
        began_at, timed_out = one.memory
        well, text = (None, "") if one.last is None else (one.last.well, one.last.text)
        return JobLeft(
            one.settings, ProcessLeft.of(one.process), one.by, one.runs, began_at, timed_out, well, text
        )


@dataclass(frozen=True, slots=True)
class ProgramsLeft:
    """All programs of a site."""

    generation: Generation
    """The generation that they follow; 0: none."""
    basis: SiteSettings | None
    force: tuple[ProgramSettings, ...]
    changed: bool
    kept: tuple[InstanceLeft, ...]
    jobs: tuple[JobLeft, ...]

    @property
    def processes(self) -> Iterator[ProcessLeft]:
        """One for each instance and each scheduled command, running or not."""
        yield from (each.process for each in self.kept)
        yield from (each.process for each in self.jobs)

    def with_processes(self, change: Callable[[ProcessLeft], ProcessLeft]) -> ProgramsLeft:
        """The same with other processes."""
        return replace(
            self,
            kept=tuple(replace(each, process=change(each.process)) for each in self.kept),
            jobs=tuple(replace(each, process=change(each.process)) for each in self.jobs),
        )


@dataclass(frozen=True, slots=True)
class GenerationsLeft:
    """What is known of a site's generations beside which of them there are."""

    rollout: RolloutLeft | None
    loads: FailuresLeft
    deaths: tuple[tuple[Generation, FailuresLeft], ...]
    templates: tuple[TemplateKnown, ...]
    last_reload: ReloadReport | None
    has_served: bool
    previous: Generation | None
    keep_until: float
    why: str
    done_at: float | None
    hooks: tuple[Hook, ...] = ()
    """The commands around a reload that run."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one site."""

    generations: GenerationsLeft
    workers: tuple[WorkerKnown, ...]
    programs: ProgramsLeft
    restarting: bool
    removed: bool
    settled: bool
    error: str | None
    scaled_to: int
    scaled_why: str
    sleep: SleepState
    sleeps_since: float
    lies_down: bool
