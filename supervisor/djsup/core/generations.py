"""The generations of one site: which serves, which is to take over, which template is still needed.

Knows templates and the rollout that runs. The workers are made and drained by ``workers.py``; how
far a rollout can come stands in ``rollout.py``, how one template behaves in ``template.py``.

The rule that binds here: workers are made from one generation at a time, ``source``: the one that
serves, or, while a rollout changes over, the new one. So a roll-back is a change-over back, and
nothing else is special about it; one that is asked for by hand is a rollout of the former generation,
which is loaded already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core import rollout
from djsup.core.actions import ForgetGeneration, Level, NoticeKind, StartTemplate
from djsup.core.backoff import Backoff
from djsup.core.canary import Trial, Verdict
from djsup.core.estate import Estate, GenerationLeft, TemplateLeft
from djsup.core.generation import LiveGeneration
from djsup.core.hooks import AFTER, BEFORE, Hooks
from djsup.core.memory import FailuresLeft, GenerationsLeft, RolloutLeft, TemplateKnown
from djsup.core.model import Generation, Preload
from djsup.core.rollout import Phase, Rollout
from djsup.core.snapshot import ReloadReport, ReloadResult
from djsup.core.template import State, Template
from djsup.core.workers import Making

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup.core.estate import WorkerLeft
    from djsup.core.events import GenerationsSampled, TemplateLoaded
    from djsup.core.listeners import Listeners
    from djsup.core.model import Address
    from djsup.core.site import Site
    from djsup.core.worker import Worker
    from djsup.core.workers import Workers

TEMPLATE_DIED = "djsup: template died"
"""Who asks for the reload that follows."""
NOTHING_TO_GO_BACK_TO = "cannot go back: no former generation is kept, or its time (keep_previous) is over"
RETRY = "djsup: next try"
"""Who asks for a load that follows a failed one."""


class Generations:
    """All generations of one site of which anything is left."""

    def __init__(self, site: Site, workers: Workers, listeners: Listeners) -> None:
        self._site = site
        self._workers = workers
        self._listeners = listeners
        self.by_number: dict[Generation, LiveGeneration] = {}
        self.serving: LiveGeneration | None = None
        """The one that serves; None before the first has proved itself."""
        self.rollout: Rollout | None = None
        self.loads = Backoff(site.name)
        """Failed loads in a row."""
        self.last_reload: ReloadReport | None = None
        self.has_served = False
        self._previous: LiveGeneration | None = None
        """The one that served before; its template is kept for a while."""
        self._keep_until = 0.0
        self.last = 0
        """The highest number that was used."""
        self._why = RETRY
        """What the next load that nobody asks for is called."""
        self.hooks = Hooks(site)
        self._done_at: float | None = None
        """When the last rollout was done, until that has been weighed at a failure."""

    # --- questions -----------------------------------------------------------------------------

    @property
    def making(self) -> Making:
        """What workers are made from at present."""
        running = self.rollout
        if running is None:
            return Making(self.serving, None)
        changing = running.phase is Phase.CHANGING
        on_trial = running.generation if running.phase is Phase.TRYING else None
        source = self.by_number[running.generation] if changing else self.serving
        return Making(source, running.generation, on_trial, gently=changing and running.replaces)

    @property
    def templates(self) -> list[Template]:
        """All templates that live."""
        return [each.template for each in self.by_number.values() if each.template is not None]

    @property
    def needs_load(self) -> bool:
        """Whether nothing can make workers."""
        return self.serving is None or self.serving.barren

    def addresses(self) -> tuple[Address, ...]:
        """The addresses that the site needs: of what serves, and of what is to serve."""
        needed = [each.settings.listen for each in (self.serving, self.rollout) if each is not None]
        needed = needed or [self._site.settings.listen]
        return tuple(dict.fromkeys(address for listen in needed for address in listen))

    def reloads_to(self) -> tuple[Address, ...] | None:
        """The addresses that it needs alone when the rollout that runs has ended well; None: none runs."""
        return None if self.rollout is None else self.rollout.settings.listen

    def former(self, now: float) -> LiveGeneration | None:
        """The generation that can come back at once: the one that served before, while its template is kept."""
        found = self._previous
        return found if found is not None and self._keeps(found, now) and found.can_make_workers else None

    def kept_s(self, now: float) -> float | None:
        """How long it can, in seconds; None: there is none."""
        return None if self.former(now) is None else self._keep_until - now

    def tries(self, number: Generation) -> bool:
        """Whether this generation is on trial."""
        running = self.rollout
        return running is not None and running.phase is Phase.TRYING and running.generation == number

    def builds(self, number: Generation) -> bool:
        """Whether a rollout brings this generation."""
        return self.rollout is not None and self.rollout.generation == number

    def deadlines(self) -> Iterator[float]:
        """Every time at which something has to be done about one of them."""
        for held in self.templates:
            if held.kill_at is not None:
                yield held.kill_at
        for each in self.by_number.values():
            if each.deaths.next_at is not None:
                yield each.deaths.next_at
        yield self._keep_until
        if self.rollout is None and self.needs_load and self.loads.next_at is not None:
            yield self.loads.next_at
        if self.rollout is not None and self.rollout.phase is Phase.BINDING:
            yield self._bind_until(self.rollout)
        yield self._workers.rests_until(self.making)
        if self.rollout is not None and self.rollout.trial is not None and self.rollout.phase is Phase.TRYING:
            yield from self.rollout.trial.deadlines()
        yield from self.hooks.deadlines()

    # --- facts ---------------------------------------------------------------------------------

    def loaded(self, generation: LiveGeneration, word: TemplateLoaded) -> None:
        """A template imported the application: may it be forked?"""
        generation.python, generation.django = word.python, word.django
        if not word.unsafe or generation.template is None or generation.template.state is not State.LOADED:
            return
        why = "; ".join(word.unsafe)
        if generation.settings.preload is Preload.AUTO:
            generation.forks = False
            generation.note = f"runs without a template, each worker boots by itself: {why}"
            self._site.notices.say(
                NoticeKind.NO_TEMPLATE, generation.note, level=Level.WARNING, generation=generation.number
            )
        else:
            generation.note = f'is forked because of preload = "true", though it does not look safe: {why}'

    def template_ended(self, gone: Template, text: str, details: str, now: float) -> None:
        """A template is gone, or never came to be."""
        generation = self.by_number[gone.generation]
        generation.template = None
        if gone.end_asked or not generation.forks:
            return
        text = f"its template died: {text}"
        if self.builds(generation.number):
            self.give_up(text, details, now)
        elif generation is self.serving or generation is self._previous:
            level = Level.ERROR if generation is self.serving else Level.INFO
            self._site.notices.say(
                NoticeKind.TEMPLATE_DIED,
                text,
                level=level,
                generation=generation.number,
                proc=gone.proc,
                details=details,
            )
            if generation is self.serving:
                self._why = TEMPLATE_DIED
                if not self._forgiven(now):
                    self.loads.failed(now)

    def worker_failed(self, gone: Worker, text: str, details: str, now: float) -> None:
        """A worker died early, or never served."""
        if self.builds(gone.generation):
            self.give_up(f"a new {text}", details, now)
            return
        self.by_number[gone.generation].deaths.failed(now)
        if self.serving is not None and self.serving.number == gone.generation:
            self._site.error = f"a {text}"

    def sampled(self, sample: GenerationsSampled, now: float) -> None:
        """What the workers of each generation have answered: of interest while one is on trial."""
        running = self.rollout
        if running is not None and running.trial is not None and running.phase is Phase.TRYING:
            running.trial.sampled(running.generation, sample.answers, now)

    def overdue(self, late: Worker | None) -> None:
        """A request of this worker has run too long."""
        running = self.rollout
        if late is not None and running is not None and running.trial is not None:
            (running.trial.new if self.tries(late.generation) else running.trial.old).add_overdue()

    def forgive(self, now: float) -> None:
        """A row of early deaths ends when a worker that came after the last has lived for long enough."""
        for each in self.by_number.values():
            failed_at = each.deaths.failed_at
            if failed_at is not None and any(
                one.ready_at is not None
                and one.ready_at >= failed_at
                and now - one.ready_at >= self._site.limits.stable_after_s
                for one in self._workers.of(each.number)
            ):
                each.deaths.reset()

    def let_go(self, why: str, now: float) -> None:
        """The site is to end, or to begin anew: nothing serves from here on."""
        self.supersede(why, now)
        self.serving = self._previous = None
        self.loads.reset()

    # --- the daemon's own death ----------------------------------------------------------------

    def estate(
        self, workers: tuple[WorkerLeft, ...], asked: str | None, asked_canary_s: float | None
    ) -> Estate:
        """What is left of the site, with these workers; ``asked`` wants a reload, with this trial, that has not begun.

        Going back is not begun again: the next daemon has no former generation, and would load the newest code.
        """
        running, former = self.rollout, self._previous
        reloading, canary_s = asked, asked_canary_s
        if running is not None and running.reported:
            goes_back = former is not None and former.number == running.generation
            reloading, canary_s = None if goes_back else running.by, running.canary_s
        return Estate(
            settings=self._site.settings,
            serving=None if self.serving is None else self.serving.number,
            last=self.last,
            generations=tuple(
                GenerationLeft(each.number, each.settings, each.forks, each.note, each.python, each.django)
                for each in self.by_number.values()
            ),
            templates=tuple(
                TemplateLeft(each.proc, each.pid, each.generation, each.state is State.LOADED)
                for each in self.templates
                if each.pid is not None
            ),
            workers=workers,
            by_hand=self._site.by_hand,
            reloading=reloading,
            canary_s=None if reloading is None else canary_s,
        )

    def take_over(self, left: Estate, now: float) -> None:
        """Take over what an earlier daemon has left. What serves no more is ended by the reconciliation."""
        self.last = left.last
        self._why = TEMPLATE_DIED
        for each in left.generations:
            deaths = Backoff(f"{self._site.name}/{each.number}")
            generation = LiveGeneration(each.number, each.settings, each.forks, deaths)
            generation.note, generation.python, generation.django = each.note, each.python, each.django
            self.by_number[each.number] = generation
        for held in left.templates:
            template = Template(held.proc, held.generation, now + self._site.limits.boot_timeout_s)
            template.started(held.pid)
            if held.loaded:
                template.loaded()
            self.by_number[held.generation].template = template
        if left.serving is not None:
            self.serving = self.by_number[left.serving]
            self.has_served = True

    # --- another program of the daemon ---------------------------------------------------------

    def memory(self) -> GenerationsLeft:
        """What the program needs to know that replaces the daemon's, beside the estate."""
        running, former = self.rollout, self._previous
        return GenerationsLeft(
            rollout=None
            if running is None
            else RolloutLeft(
                running.generation,
                running.settings,
                running.by,
                running.reported,
                running.began_at,
                running.phase,
                running.proof,
                running.canary_s,
                running.canary,
                running.trial,
                running.verdict,
                running.replaces,
                running.hook,
                running.waits_since,
            ),
            loads=FailuresLeft.of(self.loads),
            deaths=tuple((each.number, FailuresLeft.of(each.deaths)) for each in self.by_number.values()),
            templates=tuple(
                TemplateKnown(
                    each.generation, each.state, each.kill_at, each.end_asked, each.error, each.details
                )
                for each in self.templates
                if each.pid is not None
            ),
            last_reload=self.last_reload,
            has_served=self.has_served,
            previous=None if former is None or former.number not in self.by_number else former.number,
            keep_until=self._keep_until,
            why=self._why,
            done_at=self._done_at,
            hooks=self.hooks.memory(),
        )

    def remember(self, left: GenerationsLeft) -> None:
        """Go on where another program of the daemon was; ``take_over`` came before."""
        self.loads.remember(left.loads)
        for number, failures in left.deaths:
            self.by_number[number].deaths.remember(failures)
        for known in left.templates:
            template = self.by_number[known.generation].template
            assert template is not None
            template.state, template.kill_at, template.end_asked = known.state, known.kill_at, known.end_asked
            template.error, template.details = known.error, known.details
        self.last_reload, self.has_served = left.last_reload, left.has_served
        self._keep_until, self._why, self._done_at = left.keep_until, left.why, left.done_at
        if left.previous is not None:
            self._previous = self.by_number[left.previous]
        self.hooks.remember(left.hooks)
        if (held := left.rollout) is None:
            return
        # A first worker that its template had not forked yet is not known any more: another one is started.
        proof = held.proof if held.proof in self._workers.by_proc else None
        self.rollout = Rollout(
            held.generation,
            held.settings,
            held.by,
            held.reported,
            held.began_at,
            held.phase,
            proof,
            held.canary_s,
            held.canary,
            held.trial,
            held.verdict,
            held.hooks,
            # While it runs, it is the same that the hooks know.
            None if held.hook is None else self.hooks.process(held.hook.proc) or held.hook,
        )
        if held.waits_since is not None:
            self.rollout.waits_since = held.waits_since

    # --- what should be against what is --------------------------------------------------------

    def kill_late(self, unborn: list[Worker], now: float) -> None:
        """End the templates that have had their time, or did not fork what was asked of them."""
        self.hooks.kill_late(now)
        for stuck in {each.generation: self.by_number[each.generation].template for each in unborn}.values():
            if stuck is not None and stuck.state is State.LOADED:
                self._site.do(
                    stuck.kill(now, error="did not fork a worker within boot_timeout and was killed")
                )
        for late in self.templates:
            if late.kill_at is None or now < late.kill_at:
                continue
            if late.state in {State.STARTING, State.LOADING} and self.builds(late.generation):
                error = f"did not load within boot_timeout ({self._site.limits.boot_timeout_s:g} s)"
                self._site.do(late.kill(now, error=error))
                self.give_up(f"its template {error}", "", now)
            else:
                self._site.do(late.kill(now))

    def begin(self, by: str, now: float, *, reported: bool, canary_s: float | None = None) -> None:
        """Begin a rollout of the settings as they are; one that runs is given up for it.

        With ``canary_s`` its code is tried for so many seconds first (0: not at all); None: as the settings say.
        """
        self.supersede("a newer reload was asked for", now)
        number = Generation(self.last + 1)
        self.rollout = Rollout(number, self._site.settings, by, reported, now, canary_s=canary_s)
        if reported and self.serving is not None:
            self.rollout.replaces = True
            self.rollout.canary = self._site.settings.reload.trying_for(canary_s)
        self._listeners.retry(self._site.name)
        if reported:
            self._site.error = None
            self.last_reload = ReloadReport(number, ReloadResult.RUNNING, now, 0.0, by)
            text = f"reloads to generation {number}"
            self._site.notices.say(NoticeKind.RELOAD_STARTED, text, generation=number, by=by)

    def go_back(self, by: str, now: float) -> None:
        """Begin a rollout of the former generation; the one that serves is then the former, and can come back too."""
        back = self.former(now)
        if back is None:
            self._site.notices.say(
                NoticeKind.ROLLBACK_REFUSED, NOTHING_TO_GO_BACK_TO, level=Level.WARNING, by=by
            )
            return
        number = back.number
        self.supersede(f"generation {number} was asked back", now)
        back.deaths.reset()  # as a reload begins without any
        self.rollout = Rollout(number, back.settings, by, reported=True, began_at=now, phase=Phase.PROVING)
        self._site.error = None
        self.last_reload = ReloadReport(number, ReloadResult.RUNNING, now, 0.0, by)
        text = f"goes back to generation {number}"
        self._site.notices.say(NoticeKind.RELOAD_STARTED, text, generation=number, by=by)

    def begin_if_needed(self, now: float) -> None:
        """Begin a rollout when nothing can make workers and the time for it has come."""
        if self.rollout is None and self.needs_load and self.loads.allows(now):
            self.begin(self._why, now, reported=self.serving is not None)

    def advance(self, now: float) -> None:
        """Take the rollout as far as it has come."""
        running = self.rollout
        if running is not None and running.phase is Phase.BINDING:
            self._bind(running, now)
        running = self.rollout
        if running is not None and running.phase is Phase.CHECKING:
            self._check(running, now)
        running = self.rollout
        if running is not None and running.phase is Phase.LOADING:
            self._load(running, now)
        running = self.rollout
        if running is not None and running.phase is Phase.PROVING:
            self._prove(running, now)
        running = self.rollout
        if running is not None and running.phase is Phase.TRYING:
            self._try(running, now)

    def _bind(self, running: Rollout, now: float) -> None:
        listen = running.settings.listen
        error = self._listeners.problem(self._site.name, listen)
        if not error and now >= self._bind_until(running):
            if self._listeners.comes_free(self._site.name, listen):
                running.waits_since = now  # who holds it may try new code for an hour
            else:
                error = f"cannot listen: {self._listeners.waiting_for(self._site.name, listen)}"
        if self._listeners.ready(self._site.name, listen):
            if running.replaces and running.settings.reload.before is not None:
                running.move(rollout.Move.CHECK)
                return
            running.move(rollout.Move.BOUND)
            self._open(running, now)
        elif error:
            self.give_up(error, "", now, kind=NoticeKind.LISTENER_FAILED)

    def _bind_until(self, running: Rollout) -> float:
        return running.waits_since + self._site.limits.boot_timeout_s

    def _check(self, running: Rollout, now: float) -> None:
        """Have the command run that comes before the code is loaded, and see how it ends."""
        hook = running.hook
        if hook is None:
            assert running.settings.reload.before is not None
            self.last = running.generation
            running.hook = self.hooks.run(
                BEFORE, running.settings.reload.before, running.settings, running.generation, running.by, now
            )
        elif hook.ended and hook.error:
            self.give_up(f"{hook.words}: {hook.error}", hook.details, now)
        elif hook.ended:
            running.move(rollout.Move.CHECKED)
            self._open(running, now)

    def _open(self, running: Rollout, now: float) -> None:
        """The generation comes to be; from here on its number is used."""
        number, settings = running.generation, running.settings
        self.last = number
        forks = settings.preload is not Preload.NEVER
        generation = LiveGeneration(number, settings, forks, Backoff(f"{self._site.name}/{number}"))
        self.by_number[number] = generation
        if forks:
            proc = self._site.new_proc()
            generation.template = Template(proc, number, now + self._site.limits.boot_timeout_s)
            self._site.do(StartTemplate(proc, number, settings))

    def _load(self, running: Rollout, now: float) -> None:
        generation = self.by_number[running.generation]
        held = generation.template
        if held is not None and held.state is State.FAILED:
            self.give_up(held.error, held.details, now)
        elif generation.can_make_workers:
            running.move(rollout.Move.LOADED)

    def _prove(self, running: Rollout, now: float) -> None:
        """Have the first worker started, and see what becomes of it."""
        if running.proof is None:
            if self._workers.room(now) > 0:
                running.proof = self._workers.start(self.by_number[running.generation], now)
            return
        proof = self._workers.by_proc.get(running.proof)
        if proof is None or not proof.serving:
            return
        others = [each for each in self._workers.serving() if each is not proof]
        if running.canary is None or not others:
            running.move(rollout.Move.PROVED)
            return
        running.move(rollout.Move.TRY)
        running.trial = Trial.begin(running.canary, self._site.surge, now)
        text = (
            f"canary: generation {running.generation} takes a share of the traffic for "
            f"{running.canary.seconds:g} s, beside {len(others)} workers of the old code"
        )
        self._site.notices.say(NoticeKind.CANARY_STARTED, text, generation=running.generation, by=running.by)

    def _try(self, running: Rollout, now: float) -> None:
        """Have as many workers as the trial is to have, and judge what is known of it."""
        trial, number = running.trial, running.generation
        assert trial is not None
        extended = trial.extended
        verdict = trial.judge(now) or self._left_alone(number)
        if verdict is None:
            if trial.extended and not extended:
                text = f"canary: too few requests to judge, it goes on as long again: {trial.in_words()}"
                self._site.notices.say(NoticeKind.CANARY_EXTENDED, text, generation=number, by=running.by)
            there = sum(each.booting or each.serving for each in self._workers.of(number))
            for _ in range(min(trial.workers - there, self._workers.room(now))):
                self._workers.start(self.by_number[number], now)
            return
        running.verdict = verdict.why
        if not verdict.passed:
            self.give_up(f"canary: {verdict.why}", "", now)
            return
        running.move(rollout.Move.PASSED)
        text = f"canary passed: {verdict.why}"
        self._site.notices.say(NoticeKind.CANARY_PASSED, text, generation=number, by=running.by)

    def _left_alone(self, number: Generation) -> Verdict | None:
        """A trial has nothing to be compared with when the old code's workers die as they come."""
        old = [each for each in self._workers.serving() if each.generation != number]
        dying = self.serving is not None and self.serving.deaths.count > 0
        return (
            Verdict(passed=True, why="no worker of the old code serves any more")
            if dying and not old
            else None
        )

    def finish(self, now: float) -> None:
        """The change-over is complete when nothing old takes connections and enough new workers serve."""
        running = self.rollout
        if running is None or running.phase is not Phase.CHANGING:
            return
        new = [each for each in self._workers.serving() if each.generation == running.generation]
        old = [
            each
            for each in self._workers.by_proc.values()
            if each.generation != running.generation and (each.booting or each.serving)
        ]
        enough = len(new) >= self._site.promise or self.needs_load  # nothing to go back to
        if old or not new or not enough:
            return
        running.move(rollout.Move.CHANGED)
        self.rollout = None
        self._previous, self.serving = self.serving, self.by_number[running.generation]
        if self._previous is not None:
            self._keep_until = now + running.settings.reload.keep_previous_s
        self.has_served = True
        self._done_at = now
        self.loads.hurry()
        self._site.error = None
        if running.reported:
            self._report(running, ReloadResult.DONE, now)
            text = f"generation {running.generation} serves, the reload took {now - running.began_at:.1f} s"
            self._site.notices.say(NoticeKind.RELOAD_DONE, text, generation=running.generation, by=running.by)
        after = running.settings.reload.after
        if running.replaces and after is not None:
            self.hooks.run(AFTER, after, running.settings, running.generation, running.by, now)

    def give_up(
        self, error: str, details: str, now: float, *, kind: NoticeKind = NoticeKind.LOAD_FAILED
    ) -> None:
        """The rollout has failed. What it started ends in the same reconciliation."""
        failed = self.rollout
        assert failed is not None
        failed.move(rollout.Move.FAIL)
        self.rollout = None
        self._forgiven(now)
        self.loads.failed(now)
        self._why = RETRY
        text = f"could not be loaded: {error}"
        if self.serving is None:
            self._site.error = error
        if failed.reported:
            self._report(failed, ReloadResult.ROLLED_BACK, now, error, details)
            kind = NoticeKind.RELOAD_ROLLED_BACK
            stays = (
                "nothing serves" if self.serving is None else f"generation {self.serving.number} serves on"
            )
            text = f"the reload to generation {failed.generation} is rolled back, {stays}: {error}"
        if self.needs_load and self.loads.next_at is not None:
            text += f"; next try in {self.loads.next_at - now:.1f} s"
        self._site.notices.say(
            kind, text, level=Level.ERROR, generation=failed.generation, by=failed.by, details=details
        )

    def supersede(self, why: str, now: float) -> None:
        """Give the rollout up, through no fault of its own. None runs: nothing to do."""
        self.hooks.drop(why)
        dropped = self.rollout
        if dropped is None:
            return
        dropped.move(rollout.Move.SUPERSEDE)
        self.rollout = None
        if dropped.reported:
            self._report(dropped, ReloadResult.ROLLED_BACK, now, why)
            text = f"the reload to generation {dropped.generation} is given up: {why}"
            self._site.notices.say(
                NoticeKind.RELOAD_SUPERSEDED, text, generation=dropped.generation, by=dropped.by
            )

    def _report(
        self, ended: Rollout, result: ReloadResult, now: float, error: str | None = None, details: str = ""
    ) -> None:
        self.last_reload = ReloadReport(
            ended.generation,
            result,
            ended.began_at,
            now - ended.began_at,
            ended.by,
            error,
            details,
            canary=ended.verdict,
        )

    def _forgiven(self, now: float) -> bool:
        """Whether the last rollout had lasted for long enough to end the row of failures; it does so once."""
        lasted = self._done_at is not None and now - self._done_at >= self._site.limits.stable_after_s
        self._done_at = None
        if lasted:
            self.loads.reset()
        return lasted

    def tidy(self, now: float) -> None:
        """End the templates that nobody needs, forget the generations that are gone."""
        for generation in list(self.by_number.values()):
            number, held = generation.number, generation.template
            wanted = generation is self.serving or self.builds(number)
            if held is not None and not ((wanted and generation.forks) or self._keeps(generation, now)):
                end = held.end(now)
                if end is not None:
                    self._site.do(end)
            if not wanted and held is None and not self._workers.of(number):
                del self.by_number[number]
                self._site.do(ForgetGeneration(self._site.name, number))

    def _keeps(self, generation: LiveGeneration, now: float) -> bool:
        """Whether a former generation's template is kept: for a while, and not with other sockets than now."""
        return (
            generation is self._previous
            and generation.forks
            and now < self._keep_until
            and self.serving is not None
            and set(generation.settings.listen) == set(self.serving.settings.listen)
        )
