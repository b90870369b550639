"""The workers of one site: who is missing and started, who is too many or too old and drained.

Knows the promise, the surge and the slots. Which generation workers are made from is told by
``generations.py`` as a ``Making``; how one worker behaves stands in ``worker.py``.

The rules that bind here:

1. A worker is told to go only while more serve than are promised. A fault may break the promise,
   a decision of ours never does.
2. A worker is started only while ``promise + surge`` are not reached, counted as
   ``Worker.counts`` says.
3. After an early death, the next one waits for the backoff, and then they come one at a time.
4. A change-over that nobody waits for rests for a moment after each worker that has come or gone, while enough serve. To
   come and to go costs processors, and so what waits for one meanwhile is answered before the next one does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djsup.core import plan
from djsup.core.actions import BootWorker, DumpStacks, ForkWorker, Level, NoticeKind, TellLimits
from djsup.core.backoff import spread
from djsup.core.estate import Stage, WorkerLeft
from djsup.core.memory import WorkerKnown
from djsup.core.model import SLOTS, Slot
from djsup.core.worker import MOVES, PATIENCE_S, Move, State, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup.core.estate import Estate
    from djsup.core.events import MemorySampled, RequestOverdue
    from djsup.core.generation import LiveGeneration
    from djsup.core.model import Generation, ProcId
    from djsup.core.site import Site

_STAGES = {State.BOOTING: Stage.BOOTING, State.SERVING: Stage.SERVING, State.OVERDUE: Stage.SERVING}
REST_S, RESTS_S = 0.06, 1.0
"""How long a change-over rests after a worker has come or gone, and how long at most in all."""
RECYCLE_SPREAD = 0.1
"""Limits at which a worker is recycled differ by slot, up to this share."""


@dataclass(frozen=True, slots=True)
class Making:
    """What workers are made from at present."""

    source: LiveGeneration | None
    """Where missing workers come from; None: nothing has proved itself."""
    building: Generation | None
    """The generation that a rollout brings; None: none runs."""
    on_trial: Generation | None = None
    """The generation whose workers take part in a trial beside the source's; None: none does."""
    gently: bool = False
    """What serves meanwhile is well: there is no hurry."""


class Workers:
    """All workers of one site that live."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.by_proc: dict[ProcId, Worker] = {}
        self._gone_at = -math.inf
        """When the last one has gone."""

    # --- questions -----------------------------------------------------------------------------

    def serving(self) -> list[Worker]:
        """Those that accept connections and are well."""
        return [each for each in self.by_proc.values() if each.serving]

    def of(self, generation: Generation) -> list[Worker]:
        """Those of one generation, in whatever state."""
        return [each for each in self.by_proc.values() if each.generation == generation]

    def untold(self) -> list[Worker]:
        """Those that nobody has told to go."""
        return [each for each in self.by_proc.values() if each.leaving_at is None]

    def at_fault(self) -> list[Worker]:
        """Those that are known to have failed, though their process is there yet."""
        return [each for each in self.by_proc.values() if each.error and not each.end_asked]

    def room(self, now: float) -> int:
        """How many more may be started: rule 2."""
        most = self._site.promise + self._site.surge
        return most - sum(each.counts(now) for each in self.by_proc.values())

    def rests_until(self, making: Making) -> float:
        """When a change-over goes on: rule 4."""
        if not making.gently:
            return -math.inf
        came_at = (each.ready_at for each in self.by_proc.values() if each.ready_at is not None)
        steps = 2 * max(1, self._site.promise)
        return max(self._gone_at, max(came_at, default=-math.inf)) + min(REST_S, RESTS_S / steps)

    def deadlines(self) -> Iterator[float]:
        """Every time at which something has to be done about one of them."""
        for each in self.by_proc.values():
            if each.kill_at is not None:
                yield each.kill_at
            if each.leaving_at is not None:
                yield each.leaving_at + PATIENCE_S
            if each.serving and not each.retiring and self._site.limits.max_lifetime_s:
                yield self._old_at(each)

    # --- facts ---------------------------------------------------------------------------------

    def gone(self, proc: ProcId, now: float) -> None:
        """The process of one has ended, or never came to be."""
        del self.by_proc[proc]
        self._gone_at = now

    def overdue(self, event: RequestOverdue, now: float) -> None:
        """A request of one has run too long."""
        late = self.by_proc.get(event.proc)
        if late is None or Move.OVERDUE not in MOVES[late.state]:
            return
        first = not late.overdue
        late.became_overdue(self._site.limits, now)
        text = f"has run {event.method} {event.path} for {event.age_s:.1f} s and is replaced"
        notice = self._site.notices.of_worker(NoticeKind.REQUEST_OVERDUE, late, text, level=Level.ERROR)
        self._site.do(DumpStacks(late.proc, notice) if first else notice)

    def weigh(self, sample: MemorySampled) -> None:
        """Note whether one has had enough."""
        each = self.by_proc.get(sample.proc)
        if each is None or not each.serving or each.retiring:
            return
        limits = self._site.limits
        if limits.max_memory_bytes and sample.private_bytes > limits.max_memory_bytes:
            each.retiring = (
                f"its private memory is {sample.private_bytes} bytes, above {limits.max_memory_bytes}"
            )
        elif limits.max_requests and sample.requests >= self._most_requests(each):
            each.retiring = f"it has answered {sample.requests} requests"

    # --- the daemon's own death ----------------------------------------------------------------

    def left(self) -> tuple[WorkerLeft, ...]:
        """Those whose pid is known, as the next daemon has to know them."""
        return tuple(
            WorkerLeft(
                each.proc,
                each.pid,
                each.generation,
                each.slot,
                _STAGES.get(each.state, Stage.LEAVING),
                each.limits,
                each.asked_at,
                each.ready_at,
                None if each.leaving_at is None else each.kill_at,
            )
            for each in self.by_proc.values()
            if each.pid is not None
        )

    def take_over(self, estate: Estate, now: float) -> None:
        """Take over those that an earlier daemon has left."""
        limits = self._site.limits
        for each in estate.workers:
            kill_at = now + limits.boot_timeout_s
            worker = Worker(
                each.proc, each.generation, each.slot, None, each.limits, each.asked_at, kill_at=kill_at
            )
            worker.started(each.pid)
            if each.stage is not Stage.BOOTING:
                worker.ready(now if each.ready_at is None else each.ready_at)
            if each.stage is Stage.LEAVING:
                worker.drain(None, limits.drain_timeout_s, now)  # it was told, or is told by a signal
                if each.kill_at is not None and worker.kill_at is not None:
                    # A daemon's death gives it no more time.
                    worker.kill_at = min(worker.kill_at, each.kill_at)
            self.by_proc[each.proc] = worker

    # --- another program of the daemon ---------------------------------------------------------

    def memory(self) -> tuple[WorkerKnown, ...]:
        """What the program needs to know that replaces the daemon's, beside the estate."""
        return tuple(WorkerKnown.of(each) for each in self.by_proc.values() if each.pid is not None)

    def remember(self, known: tuple[WorkerKnown, ...]) -> None:
        """Go on where another program of the daemon was; ``take_over`` came before."""
        for each in known:
            worker = self.by_proc[each.proc]
            worker.state, worker.kill_at, worker.leaving_at = each.state, each.kill_at, each.leaving_at
            worker.overdue, worker.end_asked, worker.blamed = each.overdue, each.end_asked, each.blamed
            worker.error, worker.details, worker.retiring = each.error, each.details, each.retiring

    # --- what should be against what is --------------------------------------------------------

    def kill_late(self, now: float) -> list[Worker]:
        """End what has had its time. Gives those that no template ever forked."""
        unborn = []
        for each in list(self.by_proc.values()):
            if each.kill_at is None or now < each.kill_at:
                continue
            if each.unborn:
                unborn.append(each)
            error = ""
            if each.booting:
                error = f"did not get ready within boot_timeout ({self._site.limits.boot_timeout_s:g} s)"
            elif each.state is not State.KILLED:
                text = "did not end in time and is killed"
                self._site.notices.worker(NoticeKind.WORKER_KILLED, each, text, level=Level.WARNING)
            if each.state is not State.KILLED:
                self._site.do(each.kill(now, error=error))
            each.kill_at = None
        return unborn

    def tell_limits(self) -> None:
        """Tell those that serve what has changed."""
        limits = self._site.limits
        for each in self.serving():
            if each.limits != limits:
                if plan.must_tell(each.limits, limits):
                    self._site.do(TellLimits(each.proc, limits))
                each.limits = limits
                each.retiring = ""  # measured against the old ones

    def end_all(self, now: float) -> None:
        """The site is to end: drain those that serve, kill those that boot."""
        for each in self.untold():
            if each.booting:
                self._site.do(each.kill(now))
            else:
                self._drain(each, None, now)

    def cull(self, making: Making, now: float) -> None:
        """Let those go that are not wanted: rule 1."""
        keep = {making.building, None if making.source is None else making.source.number}
        for each in self.untold():
            if each.booting and each.generation not in keep:
                self._site.do(each.kill(now))
        if making.source is None:
            return
        self._note_age(now)
        retiree = self._retiree(making, now)
        fresh = sorted(self._fresh(making.source, retiree), key=_newest)
        surplus = fresh[: max(0, len(fresh) - self._site.promise)]
        for each in surplus:
            if each.booting:
                self._site.do(each.kill(now))
        serving = self.serving()
        spare = len(serving) - self._site.promise
        stay = {making.source.number, making.on_trial}
        going = sorted((each for each in serving if each.generation not in stay), key=_oldest)
        going += [] if retiree is None else [retiree]
        going += [each for each in surplus if each.serving]
        if now < self.rests_until(making):
            going = []
        for each in going[: max(0, spare)]:
            if each is retiree:
                text = f"is replaced: {each.retiring}"
                self._site.notices.worker(NoticeKind.WORKER_RECYCLED, each, text)
            self._drain(each, self._heir(making, each), now)
        if spare >= 0:
            for each in self.untold():
                if each.state is State.OVERDUE:
                    self._drain(each, self._heir(making, each), now)

    def fill(self, making: Making, now: float) -> None:
        """Start those that are missing: rules 2 and 3."""
        source = making.source
        if source is None or not source.can_make_workers or not source.deaths.allows(now):
            return
        fresh = self._fresh(source, self._retiree(making, now))
        missing = self._site.promise - len(fresh)
        if source.deaths.count:
            missing = min(missing, 1 - sum(each.booting for each in fresh))
        if now < self.rests_until(making) and len(self.serving()) >= self._site.promise:
            return
        for _ in range(min(missing, self.room(now))):
            self.start(source, now)

    def start(self, generation: LiveGeneration, now: float) -> ProcId | None:
        """Start one; None when no slot is free."""
        taken = {each.slot for each in self.by_proc.values()}
        free = next((slot for slot in range(SLOTS) if slot not in taken), None)
        if free is None:
            return None
        proc, slot, limits = self._site.new_proc(), Slot(free), self._site.limits
        mother, kill_at = None, now + limits.boot_timeout_s
        if generation.forks:
            assert generation.template is not None
            mother, limits = generation.template.proc, generation.settings.limits
            self._site.do(ForkWorker(proc, mother, self._site.name, generation.number, slot))
        else:
            settings = replace(generation.settings, limits=limits)
            self._site.do(BootWorker(proc, generation.number, slot, settings))
        self.by_proc[proc] = Worker(
            proc, generation.number, slot, mother, limits, asked_at=now, kill_at=kill_at
        )
        return proc

    # --- who -----------------------------------------------------------------------------------

    def _fresh(self, source: LiveGeneration, retiree: Worker | None) -> list[Worker]:
        """Those that count towards the promise for good."""
        mine = self.of(source.number)
        return [each for each in mine if (each.booting or each.serving) and each is not retiree]

    def _retiree(self, making: Making, now: float) -> Worker | None:
        """The one that is being replaced because it has had enough: one at a time, none during a rollout."""
        source = making.source
        if source is None or making.building is not None:
            return None
        if not source.can_make_workers or not source.deaths.allows(now):
            return None
        tired = (each for each in self.of(source.number) if each.serving and each.retiring)
        return min(tired, key=_oldest, default=None)

    def _heir(self, making: Making, leaving: Worker) -> Generation | None:
        """Who gets a leaving one's idle connections: the source, else whoever serves; None: nobody does."""
        others = {each.generation for each in self.serving() if each is not leaving}
        if making.source is not None and making.source.number in others:
            return making.source.number
        return max(others, default=None)

    def _drain(self, each: Worker, heir: Generation | None, now: float) -> None:
        self._site.do(each.drain(heir, self._site.limits.drain_timeout_s, now))

    def _note_age(self, now: float) -> None:
        for each in self.serving():
            if self._site.limits.max_lifetime_s and not each.retiring and now >= self._old_at(each):
                each.retiring = f"it has lived for {self._site.limits.max_lifetime_s:g} s"

    def _old_at(self, each: Worker) -> float:
        """When one reaches max_lifetime, spread by slot."""
        assert each.ready_at is not None
        return each.ready_at + self._site.limits.max_lifetime_s * self._spread(each)

    def _most_requests(self, each: Worker) -> int:
        """How many requests are enough for one, spread by slot."""
        return int(self._site.limits.max_requests * self._spread(each))

    def _spread(self, each: Worker) -> float:
        return spread(self._site.name, each.slot, RECYCLE_SPREAD)


def _oldest(each: Worker) -> tuple[int, float, int]:
    """Oldest generation first, in it the one that was asked for first."""
    return each.generation, each.asked_at, each.slot


def _newest(each: Worker) -> tuple[bool, int]:
    """Booting before serving, then the highest slot first."""
    return not each.booting, -each.slot
