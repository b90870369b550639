"""The programs of one site: those that are kept running, and those that run when their time has come.

Knows which settings are in force for them, and compares what should run with what runs. How one
process behaves stands in ``program.py``, how one scheduled command does in ``job.py``.

The rule that binds here: programs belong to the generation that serves. They are started after the
first one serves, follow when another has taken over, and a reload that fails touches none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djsup.core import death
from djsup.core.actions import KillProcess, Level, NoticeKind, StartProgram
from djsup.core.events import Exit, ProcessExited, ProcessStarted, ProgramSaid, RunAsked, SpawnFailed
from djsup.core.job import Job
from djsup.core.memory import InstanceLeft, JobLeft, ProcessLeft, ProgramsLeft
from djsup.core.model import Generation, ProgramReload, ProgramSettings
from djsup.core.program import ALIVE, Manners, Program, State
from djsup.core.snapshot import ProgramSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup.core.events import Event
    from djsup.core.generation import LiveGeneration
    from djsup.core.model import Pid, ProcId, SiteSettings
    from djsup.core.site import Site

STATES = {
    State.DOWN: "starting",
    State.STARTING: "starting",
    State.BOOTING: "starting",
    State.RUNNING: "running",
    State.ENDING: "stopping",
    State.KILLED: "stopping",
}
"""What an operator calls the states of the core; ``backing-off`` and ``waiting`` are told apart below."""


@dataclass(slots=True, eq=False)
class Instance:
    """One instance of a program that is kept running."""

    settings: ProgramSettings
    """As they are to be."""
    number: int
    process: Program
    generation: Generation
    """The generation that it belongs to: that at its start, or a later one that it need not start anew for."""
    runs_with: ProgramSettings | None = None
    """What its process was started with."""
    status: str = ""
    """What it last said of itself."""

    @property
    def label(self) -> str:
        """As ``celery/0``."""
        return f"{self.settings.name}/{self.number}"

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it."""
        return self.process.deadline


class Programs:
    """All programs of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._kept: dict[tuple[str, int], Instance] = {}
        self._jobs: dict[str, Job] = {}
        self._by_proc: dict[ProcId, Instance | Job] = {}
        self._force: tuple[ProgramSettings, ...] = ()
        """The programs in force."""
        self._basis: SiteSettings | None = None
        """The settings of the generation that serves: directory, interpreter, environment; None: none does."""
        self._generation = Generation(0)
        self._changed = False
        """Other programs are configured and no new generation was asked for with them."""

    # --- questions -----------------------------------------------------------------------------

    @property
    def living(self) -> bool:
        """Whether any process of them is left."""
        return bool(self._by_proc)

    @property
    def procs(self) -> tuple[ProcId, ...]:
        """The names of their processes."""
        return tuple(self._by_proc)

    def process(self, proc: ProcId) -> Program | None:
        """One of their processes; None: it is none of theirs."""
        found = self._by_proc.get(proc)
        return None if found is None else found.process

    def deadlines(self) -> Iterator[float]:
        """Every time at which something has to be done about one of them."""
        for each in self._all():
            if each.deadline is not None:
                yield each.deadline

    def snapshots(self, now: float) -> tuple[ProgramSnapshot, ...]:
        """Each as an operator sees it, in the order of the configuration."""
        return (
            *(_instance_snapshot(each, now) for each in self._kept.values()),
            *(_job_snapshot(each, now) for each in self._jobs.values()),
        )

    def _all(self) -> Iterator[Instance | Job]:
        yield from self._kept.values()
        yield from self._jobs.values()

    # --- facts ---------------------------------------------------------------------------------

    def change(self) -> None:
        """Other programs are configured, and no code is loaded anew with them."""
        self._changed = True

    def record(self, event: Event, now: float) -> bool:
        """Take a fact in; False: it is about none of them."""
        match event:
            case RunAsked():
                self._run(event, now)
                return True
            case (
                ProcessStarted(proc=proc)
                | SpawnFailed(proc=proc)
                | ProcessExited(proc=proc)
                | ProgramSaid(proc=proc)
            ):
                pass
            case _:
                return False
        match self._by_proc.get(proc):
            case Job() as job:
                self._of_job(job, event, now)
            case Instance() as instance:
                self._of_instance(instance, event, now)
            case None:
                return False
        return True

    def _of_instance(self, each: Instance, event: Event, now: float) -> None:
        match event:
            case ProcessStarted(_, pid):
                each.process.started(pid, now)
                if each.process.state is State.RUNNING:
                    self._say(NoticeKind.PROGRAM_STARTED, each, "runs")
            case ProgramSaid(ready=ready, alive=alive, status=status):
                if status is not None:
                    each.status = status
                if ready and each.process.ready(now):
                    self._say(NoticeKind.PROGRAM_STARTED, each, "is ready")
                if alive:
                    each.process.alive(now)
            case SpawnFailed(proc, error):
                self._instance_ended(each, proc, f"could not be started: {error}", "", now)
            case ProcessExited(proc, end):
                self._instance_ended(each, proc, _in_words(end, each.process), death.last_words(end), now)
            case _:
                pass

    def _instance_ended(self, each: Instance, proc: ProcId, text: str, details: str, now: float) -> None:
        del self._by_proc[proc]
        fault, pid = each.process.fault, each.process.pid
        each.status = ""
        if not each.process.exited(now):
            self._say(NoticeKind.PROGRAM_STOPPED, each, f"has ended as told: {text}", pid=pid)
            return
        wait_s = max(0.0, (each.process.backoff.next_at or now) - now)
        again = f"started again in {wait_s:.1f} s" if wait_s else "started again at once"
        why = f"{fault}; {text}" if fault else text
        self._say(
            NoticeKind.PROGRAM_DIED,
            each,
            f"died: {why}; {again}",
            level=Level.ERROR,
            details=details,
            pid=pid,
        )

    def _of_job(self, job: Job, event: Event, now: float) -> None:
        match event:
            case ProcessStarted(_, pid):
                job.process.started(pid, now)
            case SpawnFailed(proc, error):
                self._job_ended(job, proc, f"could not be started: {error}", "", now)
            case ProcessExited(proc, end):
                self._job_ended(job, proc, end, death.last_words(end), now)
            case _:
                pass  # what it says of itself has no use: nobody waits for it to be ready

    def _job_ended(self, job: Job, proc: ProcId, end: Exit | str, details: str, now: float) -> None:
        del self._by_proc[proc]
        result = job.ended(end, now)
        level = {True: Level.INFO, False: Level.ERROR, None: Level.WARNING}[result.well]
        text = f"program {job.settings.name}, run by {job.by}, {result.text}"
        self._site.notices.say(
            NoticeKind.PROGRAM_FINISHED,
            text,
            level=level,
            generation=self._generation,
            by=job.by,
            details=details,
        )

    def _run(self, event: RunAsked, now: float) -> None:
        """The time of a scheduled command has come, or somebody wants it run now."""
        job = self._jobs.get(event.program)
        if job is None or self._basis is None or not self._in_force(job):
            why = "the site does not serve" if self._basis is None else "it is not in force"
        elif job.runs_now:
            why = f"the run by {job.by} is not over yet"
        else:
            proc = self._site.new_proc()
            self._by_proc[proc] = job
            job.process.manners = self._manners(job.settings)
            job.begin(proc, event.by, now)
            self._site.notices.say(
                NoticeKind.PROGRAM_STARTED,
                f"program {event.program} is run by {event.by}",
                generation=self._generation,
                proc=proc,
                by=event.by,
            )
            self._site.do(StartProgram(proc, self._basis, self._generation, job.settings, 0))
            return
        text = f"program {event.program} is not run by {event.by}: {why}"
        self._site.notices.say(NoticeKind.PROGRAM_SKIPPED, text, level=Level.WARNING, by=event.by)

    # --- another program of the daemon ---------------------------------------------------------

    def memory(self) -> ProgramsLeft:
        """What the program needs to know that replaces the daemon's."""
        return ProgramsLeft(
            self._generation,
            self._basis,
            self._force,
            self._changed,
            tuple(
                InstanceLeft(
                    each.settings,
                    each.number,
                    each.generation,
                    ProcessLeft.of(each.process),
                    each.runs_with,
                    each.status,
                )
                for each in self._kept.values()
            ),
            tuple(JobLeft.of(each) for each in self._jobs.values()),
        )

    def left(self) -> ProgramsLeft | None:
        """What outlives the daemon if it is killed now; None: nothing.

        Without what changes at every word that a program says: this is written down whenever it is another than before.
        """
        if not self._kept and not self._jobs:
            return None
        found = self.memory().with_processes(
            lambda each: replace(each, late_at=None) if each.state in ALIVE else each
        )
        return replace(found, kept=tuple(replace(each, status="") for each in found.kept))

    def adopt(self, left: ProgramsLeft, now: float) -> None:
        """Go on with what an earlier daemon has left. Who was asked for and has no pid is gone."""
        self.remember(left)
        for proc, each in list(self._by_proc.items()):
            if each.process.pid is not None:
                each.process.adopted(now)
            elif isinstance(each, Job):
                self._job_ended(each, proc, Exit(), "", now)
            else:
                del self._by_proc[proc]
                each.process.vanished()
                self._say(
                    NoticeKind.PROGRAM_STOPPED, each, "was gone when this daemon came", level=Level.WARNING
                )

    def remember(self, left: ProgramsLeft) -> None:
        """Go on with the processes that another program of the daemon has started."""
        self._generation, self._basis, self._force = left.generation, left.basis, left.force
        self._changed = left.changed
        for kept in left.kept:
            process = self._process(kept.settings, kept.number)
            process.remember(kept.process)
            each = Instance(kept.settings, kept.number, process, kept.generation, kept.runs_with, kept.status)
            self._kept[kept.settings.name, kept.number] = each
            if process.proc is not None:
                self._by_proc[process.proc] = each
        for held in left.jobs:
            job = self._jobs[held.settings.name] = Job(held.settings, self._process(held.settings, 0))
            job.remember(held)
            if job.process.proc is not None:
                self._by_proc[job.process.proc] = job

    # --- what should be against what is --------------------------------------------------------

    def reconcile(self, serving: LiveGeneration | None, now: float, *, reloading: bool) -> None:
        """The site is to run: bring its programs to what the generation that serves needs."""
        if serving is not None and serving.number != self._generation:
            self._adopt(serving.number, serving.settings)
        elif self._changed and not reloading and self._basis is not None:
            self._adopt(self._generation, self._basis)
        self._end_late(now)
        for key, each in list(self._kept.items()):
            self._keep(each, now)
            if not each.process.wanted and each.process.state is State.DOWN:
                del self._kept[key]
        for name, job in list(self._jobs.items()):
            if not self._in_force(job) and not job.runs_now:
                del self._jobs[name]

    def end_all(self, now: float) -> None:
        """The site is to end: so are its programs."""
        self._basis, self._generation, self._force, self._changed = None, Generation(0), (), False
        self._end_late(now)
        for each in self._all():
            each.process.wanted = False
            self._do(each.process.end(now))
        self._kept = {key: each for key, each in self._kept.items() if each.process.state is not State.DOWN}
        self._jobs = {name: job for name, job in self._jobs.items() if job.runs_now}

    def kill_all(self) -> None:
        """End them at once."""
        for each in self._by_proc.values():
            self._do(each.process.kill())

    def _adopt(self, generation: Generation, basis: SiteSettings) -> None:
        """From here on the programs are those that are configured now."""
        self._generation, self._basis, self._changed = generation, basis, False
        self._force = self._site.settings.programs
        kept: dict[tuple[str, int], Instance] = {}
        jobs: dict[str, Job] = {}
        for settings in self._force:
            if settings.schedule is not None:
                job = self._jobs.pop(settings.name, None)
                jobs[settings.name] = job or Job(settings, self._process(settings, 0))
                jobs[settings.name].settings = settings
                continue
            for number in range(settings.instances):
                key = settings.name, number
                each = self._kept.pop(key, None)
                kept[key] = each or Instance(settings, number, self._process(settings, number), generation)
                kept[key].settings = settings
        self._kept = kept | self._kept  # the others are still to end
        self._jobs = jobs | self._jobs

    def _process(self, settings: ProgramSettings, number: int) -> Program:
        return Program(f"{self._site.name}/{settings.name}/{number}", self._manners(settings))

    def _manners(self, settings: ProgramSettings) -> Manners:
        return Manners.of(settings, self._site.limits)

    def _in_force(self, job: Job) -> bool:
        return job.settings in self._force

    def _end_late(self, now: float) -> None:
        for each in list(self._kept.values()):
            self._do(each.process.kill_if_late(now))
        for job in list(self._jobs.values()):
            self._do(job.end_if_late(now))

    def _keep(self, each: Instance, now: float) -> None:
        """One instance: end it, have it read its settings again, start it, or let it be."""
        process = each.process
        process.wanted = each.settings in self._force and each.number < each.settings.instances
        if process.state in ALIVE:
            if not process.wanted or (
                each.runs_with is not None and not _alike(each.runs_with, each.settings)
            ):
                self._do(process.end(now))
            else:
                process.manners = self._manners(each.settings)
                if each.generation != self._generation:
                    self._follow(each, now)
        if process.may_start(now):
            assert self._basis is not None
            proc = self._site.new_proc()
            self._by_proc[proc] = each
            process.manners = self._manners(each.settings)
            process.start(proc)
            each.runs_with, each.generation = each.settings, self._generation
            self._site.do(StartProgram(proc, self._basis, self._generation, each.settings, each.number))

    def _follow(self, each: Instance, now: float) -> None:
        """Another generation serves than that which the program belongs to."""
        if each.settings.reload is ProgramReload.RESTART:
            self._do(each.process.end(now))
            return
        each.generation = self._generation
        if each.settings.reload is ProgramReload.HUP and each.process.proc is not None:
            self._do(KillProcess(each.process.proc, "SIGHUP"))

    def _do(self, action: KillProcess | None) -> None:
        if action is not None:
            self._site.do(action)

    def _say(
        self,
        kind: NoticeKind,
        each: Instance,
        text: str,
        *,
        level: Level = Level.INFO,
        details: str = "",
        pid: Pid | None = None,
    ) -> None:
        pid = each.process.pid if pid is None else pid
        line = f"program {each.label}" + ("" if pid is None else f" (pid {pid})") + f" {text}"
        self._site.notices.say(
            kind, line, level=level, generation=each.generation, proc=each.process.proc, details=details
        )


def _alike(old: ProgramSettings, new: ProgramSettings) -> bool:
    """Whether a process that was started with the old settings can go on with the new ones."""
    here = replace(
        old,
        instances=new.instances,
        reload=new.reload,
        stop_signal=new.stop_signal,
        stop_timeout_s=new.stop_timeout_s,
    )
    return here == new


def _in_words(end: Exit, process: Program) -> str:
    return death.in_words(end, killed_by_us=process.state is State.KILLED)


def _uptime_s(process: Program, now: float) -> float:
    return now - process.started_at if process.pid is not None and process.started_at is not None else 0.0


def _instance_snapshot(each: Instance, now: float) -> ProgramSnapshot:
    process, next_try_s = each.process, None
    state = STATES[process.state]
    if process.state is State.DOWN and process.backoff.next_at is not None:
        state, next_try_s = "backing-off", max(0.0, process.backoff.next_at - now)
    return ProgramSnapshot(
        each.settings.name,
        each.number,
        process.pid,
        state,
        _uptime_s(process, now),
        status_text=each.status,
        next_try_s=next_try_s,
    )


def _job_snapshot(job: Job, now: float) -> ProgramSnapshot:
    process = job.process
    return ProgramSnapshot(
        job.settings.name,
        0,
        process.pid,
        STATES[process.state] if job.runs_now else "waiting",
        _uptime_s(process, now),
        schedule=job.settings.schedule,
        runs=job.runs,
        last_well=None if job.last is None else job.last.well,
        last_result=None if job.last is None else job.last.text,
    )
