"""One site: record the fact, then reconcile.

Everything that happens to a site is recorded by ``_record``; then ``_reconcile`` compares what
should be with what is and writes down the next actions. No sequence is waited for anywhere, so a
stop in the middle of a reload is one more fact; and whatever waits has a time at which the
waiting ends.

Its parts: ``generations.py`` decides what code serves, ``workers.py`` which processes do; ``scaling.py``
how many there are to be, and ``sleep.py`` whether any; ``programs.py`` what runs beside them.
Which words are said stands in ``notices.py``, how a pool looks in ``picture.py``.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from djsup.core import plan, template, worker
from djsup.core.actions import CloseRoute, ForgetSite, Level, NoticeKind, OpenRoute
from djsup.core.estate import Stage
from djsup.core.events import (
    ConnectionWaiting,
    DeadlinePassed,
    GenerationsSampled,
    ListenerBound,
    ListenerFailed,
    LoadSampled,
    MemorySampled,
    ProcessExited,
    ProcessStarted,
    ProgramSaid,
    ReloadAsked,
    RequestOverdue,
    RequestWaiting,
    RestartAsked,
    RollbackAsked,
    RunAsked,
    ScaleAsked,
    SettingsChanged,
    SitesAdopted,
    SiteStartAsked,
    SiteStopAsked,
    SpawnFailed,
    StopAsked,
    TemplateFailed,
    TemplateLoaded,
    WorkerFailed,
    WorkerReady,
)
from djsup.core.generations import Generations
from djsup.core.memory import Memory
from djsup.core.moves import UnknownMoveError
from djsup.core.programs import Programs
from djsup.core.site import Site
from djsup.core.sleep import Sleep
from djsup.core.template import Template
from djsup.core.worker import Worker
from djsup.core.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djsup.core.actions import Action
    from djsup.core.estate import Estate
    from djsup.core.events import Event
    from djsup.core.listeners import Listeners
    from djsup.core.model import Address, ProcId, SiteSettings


ADOPTION = "djsup: adoption"
"""Who asks for the reload that follows."""


class Mode(Enum):
    """What a site is to do."""

    RUN = "run"
    """Serve."""
    RESTART = "restart"
    """End everything, then serve again."""
    HALT = "halt"
    """End everything, until somebody starts it: an operator has stopped this site alone."""
    STOP = "stop"
    """End everything: the daemon ends."""
    REMOVED = "removed"
    """End everything: no table names it any more."""


class Pool:
    """The running state of one site."""

    def __init__(self, settings: SiteSettings, listeners: Listeners, new_proc: Callable[[], ProcId]) -> None:
        self.site = Site(settings, new_proc)
        self.workers = Workers(self.site)
        self.generations = Generations(self.site, self.workers, listeners)
        self.sleep = Sleep(self.site, self.workers, self.generations, listeners)
        self.programs = Programs(self.site)
        self.mode = Mode.RUN
        self.settled = False
        """As many serve as are promised, or all has ended; and this has been said."""
        self.deadline: float | None = None
        """When it wants to be asked again, if nothing happens before."""
        self.stopped_by: str | None = None
        """Who has stopped this site alone; None: nobody, or it was started since."""
        self._route_closed = False
        """The router was told that nobody is to be passed on to it."""
        self._asked: str | None = None
        """Who wants a reload that has not begun; None: nobody."""
        self._canary_s: float | None = None
        """For how long its code is to be tried; None: as the settings say."""

    # --- what the fleet asks -------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """Record a fact and reconcile. Gives the next actions.

        Raises:
            UnknownMoveError: the shell told what cannot have happened.
        """
        self.generations.forgive(now)
        self._record(event, now)
        return self._reconcile(now)

    def change(
        self, settings: SiteSettings, by: str, now: float, *, reload: bool, canary_s: float | None = None
    ) -> list[Action]:
        """Take over a changed table, or load the code anew, or both."""
        found = plan.changes(self.site.settings, settings)
        promised = self.site.promise
        self.site.settings = settings
        if found:
            self.site.by_hand = None
            self.site.scaling.go_on_from(promised)
            self.sleep.change(bound_anew=plan.Change.LISTENERS in found)
        if self.mode is Mode.REMOVED:
            self.mode = Mode.RUN
        elif self.mode is Mode.HALT:
            pass  # what is configured when somebody starts it is what it loads
        elif reload or plan.needs_generation(found):
            self._asked, self._canary_s = by, canary_s
        elif plan.Change.PROGRAMS in found:
            self.programs.change()
        return self._reconcile(now)

    def remove(self, now: float) -> list[Action]:
        """No table names this site any more."""
        self._end_all(Mode.REMOVED, "the site was removed", now)
        self.stopped_by = None  # a site of its name that comes later is another one
        return self._reconcile(now)

    def addresses(self) -> tuple[Address, ...]:
        """The addresses that it needs now."""
        return self.generations.addresses() if self.mode in {Mode.RUN, Mode.RESTART} else ()

    def process(self, proc: ProcId) -> Worker | Template:
        """One of its processes.

        Raises:
            StopIteration: it has no such process.
        """
        found = self.workers.by_proc.get(proc)
        return found or next(each for each in self.generations.templates if each.proc == proc)

    def running(self) -> SiteSettings:
        """Its settings as they are in force."""
        serving = self.generations.serving
        return self.site.settings if serving is None else plan.in_force(serving.settings, self.site.settings)

    @property
    def at_rest(self) -> bool:
        """Whether no process of it is left."""
        processes = self.workers.by_proc or self.generations.templates or self.generations.hooks.living
        return not processes and not self.programs.living

    @property
    def removed(self) -> bool:
        """Whether no table names it any more."""
        return self.mode is Mode.REMOVED

    @property
    def forgotten(self) -> bool:
        """Whether it was removed and nothing of it is left."""
        return self.removed and self.at_rest

    # --- the daemon's own death ----------------------------------------------------------------

    def estate(self) -> Estate | None:
        """What is left of it if the daemon dies now; None: nothing. That it was stopped is left even then."""
        if self.at_rest and self.mode is not Mode.HALT:
            return None
        estate = self.generations.estate(self.workers.left(), self._asked, self._canary_s)
        return replace(estate, programs=self.programs.left(), stopped_by=self.stopped_by)

    def bequest(self) -> Estate:
        """What the program needs to know that replaces the daemon's: all there is of it."""
        site = self.site
        estate = self.generations.estate(self.workers.left(), self._asked, self._canary_s)
        memory = Memory(
            generations=self.generations.memory(),
            workers=self.workers.memory(),
            programs=self.programs.memory(),
            restarting=self.mode is Mode.RESTART,
            removed=self.mode is Mode.REMOVED,
            settled=self.settled,
            error=site.error,
            scaled_to=site.scaling.wanted,
            scaled_why=site.scaling.why,
            sleep=self.sleep.state,
            sleeps_since=self.sleep.since,
            lies_down=self.sleep.lies_down,
        )
        return replace(
            estate,
            stopped_by=self.stopped_by,
            memory=memory,
            reloading=self._asked,
            canary_s=self._canary_s,
        )

    def inherit(self, left: Estate, memory: Memory, now: float) -> list[Action]:
        """Go on with all that another program of this daemon has left."""
        self.site.by_hand = left.by_hand
        self.generations.take_over(left, now)
        self.workers.take_over(left, now)
        self.workers.remember(memory.workers)
        self.generations.remember(memory.generations)
        self.programs.remember(memory.programs)
        self.sleep.remember(memory.sleep, memory.sleeps_since, lies_down=memory.lies_down)
        self.site.scaling.wanted, self.site.scaling.why = max(1, memory.scaled_to), memory.scaled_why
        self.site.error, self.settled = memory.error, memory.settled
        if memory.restarting:
            self.mode = Mode.RESTART
        if memory.removed:
            self.mode = Mode.REMOVED
        self._asked, self._canary_s = left.reloading, left.canary_s
        if left.stopped_by is not None:
            self.mode, self.stopped_by, self._asked = Mode.HALT, left.stopped_by, None
        return self._reconcile(now)

    def adopt(self, left: Estate, now: float) -> None:
        """Take over what an earlier daemon has left; ``change`` comes next, and reconciles."""
        self.site.by_hand = left.by_hand
        self._asked, self._canary_s = left.reloading, left.canary_s
        self.generations.take_over(left, now)
        serving = self.generations.serving
        if serving is not None and plan.needs_generation(plan.changes(serving.settings, left.settings)):
            self._asked = self._asked or ADOPTION  # a reload to these settings has failed: it is tried again
        self.workers.take_over(left, now)
        number = sum(each.stage is not Stage.LEAVING for each in left.workers)
        self.site.scaling.go_on_from(number)
        if any(left.processes):
            self.sleep.wake()  # else one that starts asleep would end what serves, or what somebody has woken
        if left.stopped_by is not None:
            self.mode, self.stopped_by, self._asked = Mode.HALT, left.stopped_by, None
        self._say_what_is_adopted(left, number)
        if left.programs is not None:
            self.programs.adopt(left.programs, now)
            if self._asked is None and left.programs.force != left.settings.programs:
                self.programs.change()  # the reload that came with them was rolled back
        self.settled = self.mode is Mode.HALT and self.at_rest

    def _say_what_is_adopted(self, left: Estate, workers: int) -> None:
        number = sum(each.pid is not None for each in left.helpers)
        helpers = _number(number, "program")
        text, level = f"is adopted from an earlier daemon: {_workers(workers)}", Level.INFO
        if left.stopped_by is not None:
            text = f"stays stopped, as {left.stopped_by} has left it"
        elif left.serving is not None:
            text += (f", {helpers}" if number else "") + f", generation {left.serving}"
        elif any(left.processes):
            level = Level.WARNING
            text = (
                "is left by an earlier daemon without what it takes to adopt it: it is ended and started anew"
            )
        else:
            text = f"an earlier daemon has left {helpers} of it and nothing that serves"
        self.site.notices.say(NoticeKind.SITE_ADOPTED, text, level=level, generation=left.serving)

    # --- facts ---------------------------------------------------------------------------------

    def _record(self, event: Event, now: float) -> None:
        if self.mode is Mode.HALT and isinstance(event, RunAsked):
            return  # each schedule of a site that was stopped on purpose would be a warning
        if self.programs.record(event, now) or self.generations.hooks.record(event, now):
            return
        match event:
            case TemplateLoaded() | TemplateFailed() | WorkerReady() | WorkerFailed():
                self._heard(event, now)
            case ProcessStarted(proc, pid):
                self.process(proc).started(pid)
            case SpawnFailed(proc, error):
                self._ended(self.process(proc), f"could not be started: {error}", "", now)
            case ProcessExited(proc, end):
                gone = self.process(proc)
                self._ended(gone, *self.site.notices.last_words(gone, end), now)
            case RequestOverdue():
                self.workers.overdue(event, now)
                self.generations.overdue(self.workers.by_proc.get(event.proc))
            case MemorySampled():
                self.workers.weigh(event)
            case ReloadAsked(by=by, canary_s=canary_s):
                if self.mode in {Mode.RUN, Mode.RESTART}:
                    self._asked, self._canary_s = by, canary_s
            case RestartAsked(by=by):
                if self.mode in {Mode.RUN, Mode.RESTART}:
                    self.site.notices.say(NoticeKind.RESTART_ASKED, "restarts", by=by)
                    self._end_all(Mode.RESTART, "the site was restarted", now)
                elif self.mode is Mode.HALT:
                    self._start(by)  # half of a restart is done already
            case SiteStopAsked(by=by, at_once=at_once):
                self._halt(by, now, at_once=at_once)
            case SiteStartAsked(by=by):
                if self.mode is Mode.HALT:
                    self._start(by)
            case RollbackAsked(by=by):
                if self.mode is Mode.RUN:
                    self.generations.go_back(by, now)
            case ScaleAsked(workers=number, by=by, relative=relative):
                self._scale(number, by, relative=relative)
            case LoadSampled():
                self._weigh(event, now)
            case GenerationsSampled():
                self.generations.sampled(event, now)
            case ConnectionWaiting(address):
                self.sleep.connection_waits(address)
            case RequestWaiting():
                self.sleep.request_waits()
            case StopAsked(at_once=at_once):
                self._stop(now, at_once=at_once)
            case DeadlinePassed() | ListenerBound() | ListenerFailed() | SettingsChanged() | SitesAdopted():
                pass  # the reconciliation looks for itself
            case RunAsked() | ProgramSaid():
                pass  # the programs' affair
            case _:
                assert_never(event)

    def _scale(self, number: int, by: str, *, relative: bool) -> None:
        """A number by hand. One more or one fewer of a site that sleeps is no reason to wake it."""
        if relative and self.site.asleep:
            return
        if self.mode is Mode.HALT:
            return
        if self.mode is Mode.RUN:
            self.sleep.wake(f"it is to have {_workers(number)}", by)
        self.site.by_hand = number + (self.site.promise if relative else 0)
        self.site.notices.say(NoticeKind.SCALED, f"is to have {_workers(self.site.promise)}", by=by)

    def _weigh(self, sample: LoadSampled, now: float) -> None:
        """What the load asks for; nothing while a reload or a restart runs, which is load of our own making."""
        site, settings, serving = self.site, self.site.settings, self.generations.serving
        if not settings.workers.scales:
            return
        runs = self.mode is Mode.RUN and not site.asleep and self.generations.rollout is None
        if not runs or serving is None or site.by_hand is not None:
            site.scaling.look_away()
        elif site.scaling.weigh(
            sample,
            settings.workers,
            serving.settings.threads,
            len(self.workers.serving()),
            settings.scaling.down_after_s,
            now,
        ):
            text = f"is scaled to {_workers(site.promise)}: {site.scaling.why}"
            site.notices.say(NoticeKind.SCALED, text)
        if self.mode is Mode.RUN:
            self.sleep.weigh(sample, now)

    def _heard(self, word: TemplateLoaded | TemplateFailed | WorkerReady | WorkerFailed, now: float) -> None:
        """A process says something of itself. It runs the site's code: what it can't have to say ends it."""
        process = self.process(word.proc)
        generation = self.generations.by_number[process.generation]
        try:
            match word, process:
                case TemplateLoaded(), Template():
                    process.loaded()
                    self.generations.loaded(generation, word)
                case TemplateLoaded(), Worker():
                    process.move(worker.Move.LOADED)
                    generation.python, generation.django = word.python, word.django
                case ((TemplateFailed() | WorkerFailed()), _):
                    process.failed(word.error, word.traceback, now)
                case WorkerReady(), Worker():
                    process.ready(now)
                    if process.serving:
                        self.site.notices.worker(NoticeKind.WORKER_READY, process, "serves")
                case _:
                    raise UnknownMoveError(f"a template says {type(word).__name__}")
        except UnknownMoveError as wrong:
            self.site.do(process.kill(now, error=f"said what it cannot have to say ({wrong})"))

    def _ended(self, gone: Worker | Template, text: str, details: str, now: float) -> None:
        """A process is gone, or never came to be. What it said itself tells more than its exit."""
        text, details = gone.error or text, gone.details or details
        gone.exited()
        if isinstance(gone, Template):
            self.generations.template_ended(gone, text, details, now)
            return
        self.workers.gone(gone.proc, now)
        if gone.end_asked:
            self.site.notices.worker(NoticeKind.WORKER_DRAINED, gone, f"has gone as told: {text}")
            return
        kind, verb = NoticeKind.WORKER_DIED, "died"
        if gone.ready_at is None:
            kind, verb = NoticeKind.WORKER_FAILED, "failed"
        self.site.notices.worker(kind, gone, f"{verb}: {text}", level=Level.ERROR, details=details)
        self._blame(gone, f"worker {verb}: {text}", details, now)

    def _blame(self, wrong: Worker, text: str, details: str, now: float) -> None:
        """Count what a worker did wrong, once: when it is known, for its process may take long to go."""
        if wrong.blamed:
            return
        wrong.blamed = True
        stable = wrong.ready_at is not None and now - wrong.ready_at >= self.site.limits.stable_after_s
        on_trial = self.generations.tries(wrong.generation)
        # Else it is replaced at once, unless others that came after it die young in a row.
        if not stable or on_trial:
            self.generations.worker_failed(wrong, text, details, now)

    def _stop(self, now: float, *, at_once: bool) -> None:
        again = self.mode is Mode.STOP
        if not again:
            self._end_all(Mode.STOP, "djsup stops", now)
        if at_once or again:
            self._kill_all(now)

    def _halt(self, by: str, now: float, *, at_once: bool) -> None:
        """It is to end and to stay so. Asked again: nothing, but for those that are not to be waited for any more."""
        if self.mode in {Mode.STOP, Mode.REMOVED}:
            return
        hurries = at_once and not self.at_rest
        if self.mode is not Mode.HALT or hurries:
            self.site.notices.say(NoticeKind.STOP_ASKED, "stops at once" if at_once else "stops", by=by)
        if self.mode is not Mode.HALT:
            self._end_all(Mode.HALT, "the site was stopped", now)
            self.stopped_by = by
        if hurries:
            self._kill_all(now)

    def _start(self, by: str) -> None:
        """It was stopped, and is to serve again: when what still runs of it has ended, as at a restart.

        What drains holds its addresses still, so that it could not be bound beside them.
        """
        self.site.notices.say(NoticeKind.START_ASKED, "starts", by=by)
        self.mode, self.stopped_by, self.settled = Mode.RESTART, None, False

    def _kill_all(self, now: float) -> None:
        for each in self.workers.by_proc.values():
            if each.state is not worker.State.KILLED:
                self.site.do(each.kill(now))
        for held in self.generations.templates:
            if held.state is not template.State.KILLED:
                self.site.do(held.kill(now))
        self.programs.kill_all()

    def _end_all(self, mode: Mode, why: str, now: float) -> None:
        self.generations.let_go(why, now)
        self.sleep.wake()
        self.site.scaling.look_away()  # what was needed before says nothing about what is needed then
        self.mode = mode
        self.settled = False
        self.site.error = None
        self._asked = None

    # --- what should be against what is --------------------------------------------------------

    def _reconcile(self, now: float) -> list[Action]:
        self.generations.kill_late(self.workers.kill_late(now), now)
        for each in self.workers.at_fault():
            self._blame(each, f"worker failed: {each.error}", each.details, now)
        if self.mode is Mode.RESTART and self.at_rest:
            self.mode = Mode.RUN
        if self.mode is Mode.RUN:
            self._run(now)
            reloading = self.generations.rollout is not None
            self.programs.reconcile(self.generations.serving, now, reloading=reloading)
        else:
            self.workers.end_all(now)
            self.programs.end_all(now)
        self.generations.tidy(now)
        self.sleep.watch(running=self.mode is Mode.RUN)
        self._route()
        self._say_how_it_is()
        self.deadline = min((each for each in self._deadlines() if each > now), default=None)
        return self.site.take()

    def _run(self, now: float) -> None:
        self.sleep.look(now)
        by, self._asked = self._asked, None
        if by is not None and not self.sleep.cold:
            reported = not self.sleep.lies_down
            if reported:
                self.sleep.wake("it is reloaded", by)
            self.generations.begin(by, now, reported=reported, canary_s=self._canary_s)
        if self.site.asleep:
            self.workers.end_all(now)
            return
        self.generations.begin_if_needed(now)
        self.sleep.lie_down(now)
        self.generations.advance(now)
        self.workers.tell_limits()
        self.workers.cull(self.generations.making, now)
        self.generations.finish(now)
        self.workers.fill(self.generations.making, now)

    def _route(self) -> None:
        """Have the router know whether requests from shared addresses are to come here at all."""
        closed = self.mode is Mode.HALT and bool(self.site.settings.shared)
        if closed != self._route_closed:
            self._route_closed = closed
            self.site.do(CloseRoute(self.site.name) if closed else OpenRoute(self.site.name))

    def _say_how_it_is(self) -> None:
        """Say that it serves, or that it has stopped: once each time."""
        if self.mode is Mode.RUN:
            number = len(self.workers.serving())
            serving = self.generations.serving
            if self.site.asleep:
                self.settled = False
            elif serving is not None and number >= self.site.promise:
                self.site.error = None
                self._settle(
                    NoticeKind.SITE_SERVING, f"serves with {_workers(number)}, generation {serving.number}"
                )
            elif number == 0:
                self.settled = False
        elif self.mode is not Mode.RESTART and self.at_rest:
            self._settle(NoticeKind.SITE_STOPPED, "has stopped")
            if self.removed:
                self.site.do(ForgetSite(self.site.name))

    def _settle(self, kind: NoticeKind, text: str) -> None:
        if not self.settled:
            self.settled = True
            self.site.notices.say(kind, text)

    def _deadlines(self) -> Iterator[float]:
        yield from self.workers.deadlines()
        yield from self.programs.deadlines()
        if self.mode is Mode.RUN:
            yield from self.generations.deadlines()
            yield from self.sleep.deadlines()
        else:
            yield from (each.kill_at for each in self.generations.templates if each.kill_at is not None)
            yield from self.generations.hooks.deadlines()


def _workers(number: int) -> str:
    return _number(number, "worker")


def _number(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
