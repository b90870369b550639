"""Trials and the commands around a reload in a simulated history: what happens to them, and what must hold.

The world's part decides which sites try new code and run commands, how those end, and what the generations answer;
the judge's part sees the actions and the notices.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

from djsup.core.actions import (
    BootWorker,
    DrainWorker,
    ForgetSite,
    ForkWorker,
    NoticeKind,
    Publish,
    RunHook,
    StartTemplate,
)
from djsup.core.events import Answers, Exit, GenerationsSampled, ProcessExited, SpawnFailed
from djsup.core.model import Canary, Generation, ReloadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.simulation.world import Proc, World
    from djsup.core.actions import Action
    from djsup.core.events import Event
    from djsup.core.model import ProcId, SiteName

HOOK_TIMEOUT_S = 3.0
END_S = 2.0
"""The longest that a command takes to come to be, and to be gone when it is killed."""


class TrialWorld:
    """Its own dice, so that old seeds go on to tell their histories."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = random.Random(f"trials {seed}")
        self._world = world

    def policy(self, surge: int, keep_previous_s: float) -> ReloadPolicy:
        """How a site takes over new code: half of them without any of this."""
        dice = self._random
        canary = None
        if dice.random() < 0.5:
            canary = Canary(
                dice.choice([1, 1, 2, 3]), dice.choice([0.5, 3.0]), 0.02, 2.0, dice.choice([1, 20])
            )
        before = "check" if dice.random() < 0.3 else None
        after = "warm" if dice.random() < 0.3 else None
        return ReloadPolicy(surge, keep_previous_s, canary, before, after, HOOK_TIMEOUT_S)

    def asked(self) -> float | None:
        """What somebody asks for who reloads."""
        return self._random.choice([None, None, 0.0, 2.0])

    def runs(self, hook: Proc) -> None:
        """A command runs: well, badly, or for ever."""
        hook.ready_at = self._world.now
        fate = self._random.random()
        if self._world.calm:
            self._world.end(hook, Exit(0), 0.2)
        elif fate < 0.9:
            how = Exit(0) if fate < 0.6 else Exit(1)
            self._world.end(hook, how, self._random.choice([0.0, 0.2, self._random.uniform(0, 4)]))

    def event(self) -> Event | None:
        """What the generations of a site have answered, where more than one serves."""
        for site in self._world.settings.sites:
            serving = {each.generation for each in self._world.living(site.name, "worker") if each.serves}
            if len(serving) > 1:
                return GenerationsSampled(site.name, tuple(self._answers(each) for each in sorted(serving)))
        return None

    def _answers(self, generation: Generation) -> Answers:
        number = self._random.choice([0, 3, 50])
        failed = min(number, self._random.choice([0, 0, 1, number]))
        return Answers(generation, number, failed, ((self._random.choice([0.001, 0.01, 0.5]), number),))


class TrialJudge:
    """Watches trials and commands from outside."""

    def __init__(self, world: World, check: Callable[[object, str], None]) -> None:
        self._world = world
        self._check = check
        self._on_trial: dict[SiteName, Generation] = {}
        self._before: dict[SiteName, tuple[ProcId, Generation]] = {}
        """The command that runs before a reload."""
        self._checked: dict[SiteName, Generation] = defaultdict(lambda: Generation(0))

    def before(self, event: Event) -> None:
        """Note how commands end, in time."""
        for each in self._world.living(kind="hook"):
            lives_s = self._world.now - each.asked_at
            self._check(lives_s <= HOOK_TIMEOUT_S + END_S, f"command {each.proc} runs for {lives_s:.1f} s")
        match event:
            case ProcessExited(proc=proc, exit=end):
                self._ended(proc, well=end.status == 0)
            case SpawnFailed(proc=proc):
                self._ended(proc, well=False)
            case _:
                pass

    def _ended(self, proc: ProcId, *, well: bool) -> None:
        for name, (hook, generation) in list(self._before.items()):
            if hook == proc:
                del self._before[name]
                self._checked[name] = generation if well else Generation(0)

    def came(self, action: Action) -> None:
        """Judge one action; the world has performed it."""
        match action:
            case Publish(kind=kind, site=name, generation=generation) if name is not None:
                self._said(kind, name, generation)
            case RunHook(proc=proc, site=site, generation=generation, name="before_reload"):
                self._before[site.name] = (proc, generation)
            case StartTemplate(site=site, generation=generation):
                self._loads(site.name, generation)
            case BootWorker(site=site, generation=generation):
                self._loads(site.name, generation)
                self._takes_part(site.name, generation)
            case ForkWorker(site=name, generation=generation):
                self._takes_part(name, generation)
            case DrainWorker(proc=proc):
                self._drained(self._world.procs[proc])
            case ForgetSite(name):
                self._checked.pop(name, None)
            case _:
                pass

    def _said(self, kind: NoticeKind, name: SiteName, generation: Generation | None) -> None:
        if kind is NoticeKind.CANARY_STARTED:
            assert generation is not None
            self._on_trial[name] = generation
        elif kind in {
            NoticeKind.CANARY_PASSED,
            NoticeKind.RELOAD_ROLLED_BACK,
            NoticeKind.RELOAD_SUPERSEDED,
            NoticeKind.STOPPING,
        }:
            self._on_trial.pop(name, None)

    def _loads(self, name: SiteName, generation: Generation) -> None:
        running = self._before.get(name)
        self._check(
            running is None or running[1] != generation, f"{name}: nothing is loaded while its command runs"
        )

    def _takes_part(self, name: SiteName, generation: Generation) -> None:
        if self._on_trial.get(name) != generation:
            return
        policy = self._world.generations[name, generation].reload
        most = min((policy.canary or Canary()).workers, max(1, policy.surge))
        number = sum(
            each.generation == generation and each.told_at is None and each.overdue_at is None
            for each in self._world.living(name, "worker")
        )
        self._check(number <= most, f"{name}: {number} workers are on trial, {most} are to be")

    def _drained(self, each: Proc) -> None:
        """While a trial runs, what is on trial stays, unless a request of it runs too long."""
        if each.site is None or each.overdue_at is not None:
            return
        on_trial = self._on_trial.get(each.site)
        self._check(each.generation != on_trial, "a worker on trial is not drained before the verdict")

    def daemon_replaced(self) -> None:
        """The next daemon begins every reload anew."""
        self._on_trial.clear()
        self._before.clear()

    def at_rest(self) -> None:
        """No trial and no command goes on for ever."""
        self._check(not self._on_trial, "every trial ends")
        self._check(not self._world.living(kind="hook"), "every command ends")
