"""What must be true after every step of a simulated history, and what when it has come to rest.

Judges from outside: it sees the events that went into the fleet, the actions that came out, and
the truth of ``world.py``; it reckons promises and waiting times by its own rules and looks into the
fleet only through its public face.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.simulation.picture import Picture
from core.simulation.programs import ProgramJudge
from core.simulation.scales import Scales
from core.simulation.stops import StopJudge
from core.simulation.trials import TrialJudge
from core.simulation.world import NAMES, Proc, Stage, World
from djsup.core import plan
from djsup.core.actions import (
    BindListener,
    BootWorker,
    CloseListener,
    DrainWorker,
    ForgetGeneration,
    ForgetSite,
    ForkWorker,
    KillProcess,
    NoticeKind,
    Publish,
    Quit,
    StartDashboard,
    StartProgram,
    StartTemplate,
)
from djsup.core.events import (
    ProcessExited,
    ReloadAsked,
    RestartAsked,
    RollbackAsked,
    ScaleAsked,
    SettingsChanged,
    SiteStartAsked,
    SiteStopAsked,
    SpawnFailed,
    StopAsked,
    WorkerFailed,
)
from djsup.core.model import SLOTS, Generation, Preload, ProcId, Settings, SiteName
from djsup.core.scaling import WORKERS_MAX
from djsup.core.snapshot import ReloadResult, SiteState
from djsup.core.worker import KILL_SLACK_S, PATIENCE_S

if TYPE_CHECKING:
    from djsup.core.actions import Action
    from djsup.core.estate import Estate
    from djsup.core.events import Event
    from djsup.core.fleet import Fleet
    from djsup.core.model import Address
    from djsup.core.snapshot import SiteSnapshot

SLACK_S = 1e-6
EXIT_S = 8.0
"""The longest that a process which was told to go may take in this world, kill included."""


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Row:
    """Failures in a row, reckoned from outside."""

    count: int = 0
    last_at: float = 0.0

    def least_wait_s(self) -> float:
        return min(30.0, 0.1 * 2.0 ** min(self.count, 20)) if self.count else 0.0


class Judge:
    """Watches one history."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self.world = world
        self.fleet = fleet
        self.settings: Settings | None = None
        self.by_hand: dict[SiteName, int] = {}
        self.ending: set[SiteName] = set()
        """Sites that restart or were removed and still have processes, and those that are stopped."""
        self.stopping_at: float | None = None
        self.quit = False
        self.deaths: dict[tuple[SiteName, Generation], Row] = defaultdict(Row)
        self.loads: dict[SiteName, Row] = defaultdict(Row)
        self.load_asked: set[SiteName] = set()
        self.highest: dict[SiteName, int] = defaultdict(int)
        self.forgotten: set[tuple[SiteName, Generation]] = set()
        self.serving_generation: dict[SiteName, int] = defaultdict(int)
        self.asked_back: dict[SiteName, int] = defaultdict(int)
        """The generation that a rollback was asked to bring back, until another serves."""
        self.dashboard_deaths = Row()
        self.boot_until: dict[ProcId, float] = {}
        self.unanswered: dict[SiteName, int] = defaultdict(int)
        self.picture = Picture(fleet)
        self.programs = ProgramJudge(world.programs, fleet, self.picture, self.check)
        self.scales = Scales(self)
        self.trials = TrialJudge(world, self.check)
        self.stops = StopJudge(self)

    def check(self, ok: object, rule: str) -> None:
        if not ok:
            raise BrokenError(rule)

    # --- one step ------------------------------------------------------------------------------

    def before(self, event: Event) -> None:
        """Note what goes in."""
        now = self.world.now
        self._forgive(now)
        self.programs.before(event)
        self.trials.before(event)
        self.scales.before(event)
        was_stopped = set(self.stops.since)
        self.stops.before(event)
        match event:
            case SettingsChanged(settings=settings, reload=reload) if self.stopping_at is None:
                self._new_settings(settings, reload)
            case ScaleAsked(site=site, workers=workers, relative=relative) if self._known(site):
                # One more for all wakes nobody, and no number starts what is stopped.
                if not (relative and self.sleeps(site)) and site not in self.stops:
                    number = workers + (self.promise(site) if relative else 0)
                    self.by_hand[site] = self._bounded(site, number)
            case ReloadAsked(site=site) if self._known(site):
                self.load_asked.add(site)
            case RollbackAsked(site=site) if self._known(site) and site not in self.ending:
                shown = next(each for each in self.fleet.snapshot(now) if each.name == site)
                self.asked_back[site] = shown.previous_generation or self.asked_back[site]
                # A generation that comes back begins anew, as one that is loaded.
                for (name, generation), row in self.deaths.items():
                    if name == site and generation != self.serving_generation[site]:
                        row.count = 0
            case RestartAsked(site=site) if self._known(site) and self.stopping_at is None:
                self.load_asked.add(site)
                self._ends(site)
            case SiteStopAsked(site=site) if site in self.stops and site not in was_stopped:
                self._ends(site)
            case SiteStartAsked(site=site) if site in was_stopped:
                self.load_asked.add(site)
            case StopAsked():
                self.stopping_at = now if self.stopping_at is None else self.stopping_at
            case WorkerFailed(proc=proc):
                self._blame(self.world.procs[proc], now)
            case ProcessExited(proc=proc) | SpawnFailed(proc=proc) if proc in self.world.procs:
                self._death(self.world.procs[proc], now)
            case _:
                pass
        ended = {name for name in self.ending if self._known(name) and not self._living(name)}
        self.ending -= ended - set(self.stops.since)

    def after(self, actions: list[Action]) -> None:
        """Judge what comes out. The world has performed the actions already."""
        now = self.world.now
        self.picture.take(now)
        spawned: set[SiteName] = set()
        drained: set[SiteName] = set()
        for action in actions:
            self.trials.came(action)
            self.stops.came(action)
            match action:
                case StartTemplate(site=site, generation=generation):
                    self._new_generation(site.name, generation, now)
                    self._addresses_are_bound(site.listen, site.name)
                    self.check(self.stopping_at is None, "nothing is started after a stop")
                case BootWorker(site=site, generation=generation, slot=slot, proc=proc):
                    if generation > self.highest[site.name]:
                        self._new_generation(site.name, generation, now)
                    self._addresses_are_bound(site.listen, site.name)
                    self._worker_started(site.name, generation, slot, proc, now)
                    spawned.add(site.name)
                case ForkWorker(site=name, generation=generation, slot=slot, proc=proc, template=template):
                    mother = self.world.procs[template]
                    fit = mother.stage in {Stage.READY, Stage.GONE} and mother.told_at is None
                    self.check(
                        fit and mother.generation == generation, "only a loaded template is asked to fork"
                    )
                    self._worker_started(name, generation, slot, proc, now)
                    spawned.add(name)
                case DrainWorker(proc=proc, handover_to=heir):
                    self._drained(self.world.procs[proc], heir, drained)
                case StartProgram(site=site):
                    self.programs.started(action, ends=self._is_ending(site.name))
                case KillProcess(proc=proc) if proc in self.world.programs.procs:
                    ends = self._is_ending(self.world.programs.procs[proc].action.site.name)
                    self.programs.told(action, ends=ends)
                case KillProcess(proc=proc) if proc in self.world.programs.keepers:
                    self.programs.keeper_told()
                case KillProcess(proc=proc, signal=signal):
                    self._killed(self.world.procs[proc], signal, now)
                case ForgetGeneration(site=name, generation=generation):
                    left = [each for each in self.world.living(name) if each.generation == generation]
                    self.check(not left, "a generation is forgotten when nothing of it is left")
                    self.check((name, generation) not in self.forgotten, "a generation is forgotten once")
                    self.forgotten.add((name, generation))
                case ForgetSite(site=name):
                    self._forget(name)
                case CloseListener(address=address):
                    self._closed(address)
                case BindListener():
                    self.check(self.stopping_at is None, "nothing is bound after a stop")
                case StartDashboard():
                    waited_s = now - self.dashboard_deaths.last_at
                    self.check(
                        waited_s >= self.dashboard_deaths.least_wait_s() - SLACK_S,
                        "the dashboard is not started faster than the backoff allows",
                    )
                case Publish(kind=kind, site=name) if name is not None:
                    self._said(kind, name, now)
                case Quit():
                    self.quit = True
                    left_over = self._living() or self.world.programs.keeper is not None
                    self.check(not left_over, "the daemon quits when no process is left")
                case _:
                    pass
        for name in spawned:
            self._surge_is_kept(name, now)
        for name in drained:
            self._promise_is_kept(name)
        self._nothing_waits_for_ever(now)
        self.programs.after()
        if actions:
            self._books_agree(now)
        self.scales.after()
        self.stops.after()

    def _ends(self, site: SiteName) -> None:
        """Nothing of it serves from here on; what follows begins anew."""
        self.programs.forget(site)
        self.ending.add(site)
        self.loads[site] = Row()
        self.serving_generation[site] = 0

    def _is_ending(self, site: SiteName) -> bool:
        return self.stopping_at is not None or site in self.ending

    def _living(self, site: SiteName | None = None) -> bool:
        return bool(self.world.living(site) or self.world.programs.living(site))

    def _known(self, site: SiteName) -> bool:
        return self.settings is not None and self.settings.site(site) is not None

    def _new_settings(self, settings: Settings, reload: frozenset[SiteName]) -> None:
        old, self.settings = self.settings, settings
        for site in settings.sites:
            before = None if old is None else old.site(site.name)
            if before != site:
                self.by_hand.pop(site.name, None)
            if before is not None and before.limits != site.limits:
                for each in self.world.living(site.name):
                    each.tired = False  # measured against the old ones
            if before is None:
                self.ending.discard(site.name)
            if before is None or before.programs != site.programs:
                self.programs.forget(site.name)
            found = frozenset() if before is None else plan.changes(before, site)
            if before is None or site.name in reload or plan.needs_generation(found):
                self.load_asked.add(site.name)
        for site in old.sites if old is not None else ():
            if settings.site(site.name) is None:
                self._ends(site.name)
                self.by_hand.pop(site.name, None)
        if old is None or old.dashboard != settings.dashboard:
            self.dashboard_deaths = Row()

    def promise(self, name: SiteName) -> int:
        assert self.settings is not None
        site = self.settings.site(name)
        if site is None:
            return 0
        if name in self.by_hand:
            return self._bounded(name, self.by_hand[name])
        if site.workers.scales:  # each change of it is weighed in scales.py
            shown = self.scales.shown(name)
            return max(1, site.workers.least) if shown is None else shown.workers_asked
        return max(1, min(site.workers.least, WORKERS_MAX))

    def _bounded(self, name: SiteName, number: int) -> int:
        site = None if self.settings is None else self.settings.site(name)
        if site is None or not site.workers.scales:
            return max(1, min(number, WORKERS_MAX))
        return max(1, site.workers.least, min(number, site.workers.most))

    def sleeps(self, name: SiteName) -> bool:
        shown = self.scales.shown(name)
        return shown is not None and shown.state is SiteState.SLEEPING

    # --- the daemon's death --------------------------------------------------------------------

    def daemon_replaced(self, fleet: Fleet, adopted: tuple[Estate, ...]) -> None:
        """Another daemon goes on with these sites; it knows nothing of failures, nor of what was under way."""
        self.fleet = fleet
        self.picture.take(self.world.now, fleet)
        served = {each.settings.name for each in adopted if each.serving is not None}
        known = {each.settings.name for each in adopted}
        for row in (self.deaths, self.loads, self.unanswered):
            row.clear()
        self.dashboard_deaths = Row()
        self.asked_back.clear()
        self.programs.daemon_replaced(fleet, adopted)
        self.trials.daemon_replaced()
        self.scales.daemon_replaced()
        self.load_asked |= known
        for site in adopted:
            boot_until = self.world.now + site.settings.limits.boot_timeout_s
            self.boot_until |= {each.proc: boot_until for each in site.workers}
        self.ending = {name for name in self.ending if not self._known(name) and name in known}
        self.ending |= set(self.stops.since)
        for name in list(self.serving_generation):
            if name not in served:
                self.serving_generation[name] = 0
        for name in [each for each in self.highest if each not in known]:
            self.highest.pop(name)
            self.forgotten = {each for each in self.forgotten if each[0] != name}
        self.by_hand = {name: number for name, number in self.by_hand.items() if name in known}

    def serving(self) -> dict[SiteName, int]:
        """How many workers of each site serve."""
        return {name: sum(each.serves for each in self.world.living(name, "worker")) for name in NAMES}

    def keeps_serving(self, before: dict[SiteName, int]) -> None:
        """The first settings have come after an adoption: that by itself ends nobody who is needed."""
        for name, number in self.serving().items():
            if self._known(name):
                self.check(
                    number >= min(before[name], self.promise(name)), f"{name}: an adoption ends workers"
                )

    def goes_on(self, before: dict[str, SiteSnapshot]) -> None:
        """The daemon's program was replaced: whatever an operator sees of a site is as before."""
        for shown in self.fleet.snapshot(self.world.now):
            was = before[shown.name]
            for what in (
                *("generation", "last_reload", "previous_generation", "workers_asked", "workers_why"),
                "stopped_by",
            ):
                found, wanted = getattr(shown, what), getattr(was, what)
                self.check(found == wanted, f"{shown.name}: {what} is {found} after an upgrade, was {wanted}")
            self.check(shown.failures_in_row == was.failures_in_row, f"{shown.name}: failures are counted on")
            lives = {each.slot for each in was.workers if each.pid is not None}
            self.check(lives <= {each.slot for each in shown.workers}, f"{shown.name}: no worker is lost")
            self.check(
                [(each.name, each.pid, each.runs) for each in shown.programs]
                == [(each.name, each.pid, each.runs) for each in was.programs],
                f"{shown.name}: its programs are as before",
            )

    # --- rules ---------------------------------------------------------------------------------

    def _forgive(self, now: float) -> None:
        for (name, generation), row in self.deaths.items():
            if (
                row.count
                and now - row.last_at >= 4.0
                and any(
                    each.ready_at is not None
                    and each.ready_at >= row.last_at
                    and now - each.ready_at >= self.world.site_settings(each).limits.stable_after_s
                    for each in self.world.living(name, "worker")
                    if each.generation == generation
                )
            ):
                row.count = 0

    def _death(self, each: Proc, now: float) -> None:
        asked = each.told_at is not None and each.stage is not Stage.FAILED
        if each.kind == "dashboard" and not asked:
            stable = each.ready_at is not None and now - each.ready_at >= 10
            self.dashboard_deaths.count = 0 if stable else min(self.dashboard_deaths.count + 1, 1)
            self.dashboard_deaths.last_at = now
        if each.kind != "worker" or asked or each.overdue_at is not None or each.site is None:
            return
        stable_after_s = self.world.site_settings(each).limits.stable_after_s
        if each.ready_at is not None and now - each.ready_at >= stable_after_s:
            row = self.deaths[each.site, each.generation]
            row.count = 0 if each.ready_at >= row.last_at else row.count
        else:
            self._blame(each, now)

    def _blame(self, each: Proc, now: float) -> None:
        """It failed early: counted once, when it is known."""
        if each.blamed or each.killed or each.drained or each.site is None:
            return
        each.blamed = True
        row = self.deaths[each.site, each.generation]
        row.count += 1
        row.last_at = now

    def _new_generation(self, name: SiteName, generation: Generation, now: float) -> None:
        self.check(generation > self.highest[name], "a generation's number is used once")
        self.highest[name] = generation
        row = self.loads[name]
        if name not in self.load_asked:
            self.check(
                now - row.last_at >= row.least_wait_s() - SLACK_S,
                f"a failed load is not repeated faster than the backoff allows: {now - row.last_at:.2f} s"
                f" after {row.count} failures",
            )
        self.load_asked.discard(name)

    def _addresses_are_bound(self, listen: tuple[Address, ...], name: SiteName) -> None:
        self.check(set(listen) <= self.world.bound, f"{name} is started when its addresses are bound")

    def _worker_started(
        self, name: SiteName, generation: Generation, slot: int, proc: ProcId, now: float
    ) -> None:
        self.check(self.stopping_at is None and name not in self.ending, "no worker is started for what ends")
        row = self.deaths[name, generation]
        self.check(
            now - row.last_at >= row.least_wait_s() - SLACK_S,
            f"a worker is not started faster than the backoff allows: {now - row.last_at:.2f} s"
            f" after {row.count} early deaths",
        )
        others = {each.slot for each in self.world.living(name, "worker") if each.proc != proc}
        lower = [each for each in range(slot) if each not in others]
        self.check(slot not in others and 0 <= slot < SLOTS, "no two workers share a slot")
        site = None if self.settings is None else self.settings.site(name)
        self.boot_until[proc] = now + (60.0 if site is None else site.limits.boot_timeout_s)
        newer = [each for each in self.world.living(name, "worker") if each.proc > proc]
        self.check(not lower or newer, "a worker gets the lowest free slot")

    def _counted(self, name: SiteName, now: float) -> list[Proc]:
        return [
            each
            for each in self.world.living(name, "worker")
            if each.overdue_at is None and (each.told_at is None or now < each.told_at + PATIENCE_S)
        ]

    def _surge_is_kept(self, name: SiteName, now: float) -> None:
        assert self.settings is not None
        site = self.settings.site(name)
        assert site is not None
        number, most = len(self._counted(name, now)), self.promise(name) + max(1, site.reload.surge)
        self.check(number <= most, f"{name}: {number} workers live, {most} may")

    def _drained(self, each: Proc, heir: Generation | None, drained: set[SiteName]) -> None:
        assert each.site is not None
        ends = self.stopping_at is not None or each.site in self.ending
        if ends:
            self.check(heir is None, "a site that ends has no heir")
            return
        if each.overdue_at is None:
            drained.add(each.site)
        served = [one for one in self.world.living(each.site, "worker") if one.serves]
        if heir is None:
            self.check(not served, "idle connections are handed over while somebody serves")
        else:
            fit = any(one.generation == heir for one in served)
            self.check(fit, "an heir serves")

    def _promise_is_kept(self, name: SiteName) -> None:
        number = sum(each.serves for each in self.world.living(name, "worker"))
        promise = self.promise(name)
        self.check(
            number >= promise, f"{name}: a decision of ours leaves {number} serving, {promise} are promised"
        )

    def _killed(self, each: Proc, signal: str, now: float) -> None:
        if self.stopping_at is not None or each.site is None or each.site in self.ending:
            return
        limits = self.world.site_settings(each).limits
        if each.kind == "worker" and each.ready_at is None and now >= self.boot_until[each.proc]:
            each.killed = False  # its own fault, so it is counted
            self._blame(each, now)
            each.killed = True
        if each.kind == "worker" and each.stage is Stage.READY and signal == "SIGKILL":
            self.check(each.drained or each.overdue_at is not None, "a worker that serves is not killed")
        if each.kind == "template" and each.generation == self.serving_generation[each.site]:
            mute = any(
                one.template == each.proc
                and one.stage is Stage.ASKED
                and now - one.asked_at >= limits.boot_timeout_s - 4
                for one in self.world.living(each.site, "worker")
            )
            done = self._generation_now(each.site) != each.generation
            told_before = each.told_at is not None and each.told_at < now
            self.check(mute or done or told_before, "the serving generation's template is left alone")

    def _generation_now(self, name: SiteName) -> int:
        shown = self.picture.site(name)
        return 0 if shown is None else shown.generation

    def _forget(self, name: SiteName) -> None:
        """A site of this name that is added later is another one: it begins with generation 1."""
        self.check(not self._living(name), "a site is forgotten when no process of it is left")
        self.check(not self._known(name), "a site that is configured is not forgotten")
        self.highest.pop(name, None)
        self.serving_generation.pop(name, None)
        self.loads.pop(name, None)
        self.forgotten = {each for each in self.forgotten if each[0] != name}
        self.deaths = defaultdict(Row, {key: row for key, row in self.deaths.items() if key[0] != name})

    def _closed(self, address: Address) -> None:
        if self.stopping_at is not None:
            return
        for site in self.picture.sites:
            settings = self.world.generations.get((SiteName(site.name), Generation(site.generation)))
            if settings is not None and SiteName(site.name) not in self.ending:
                self.check(address not in settings.listen, "an address that serves is not closed")

    def _said(self, kind: NoticeKind, name: SiteName, now: float) -> None:
        failed = {NoticeKind.LOAD_FAILED, NoticeKind.RELOAD_ROLLED_BACK, NoticeKind.LISTENER_FAILED}
        if kind in failed:
            self.loads[name].count += 1
            self.loads[name].last_at = now
        elif kind in {NoticeKind.RELOAD_DONE, NoticeKind.SITE_SERVING}:
            self.loads[name].count = 0
        if kind is NoticeKind.SITE_COLD:
            self.loads[name] = Row()
            self.serving_generation[name] = 0
        if kind is NoticeKind.RELOAD_STARTED:
            self.unanswered[name] += 1
            self.check(self.unanswered[name] == 1, "one reload of a site runs at one time")
        elif kind in {NoticeKind.RELOAD_DONE, NoticeKind.RELOAD_ROLLED_BACK, NoticeKind.RELOAD_SUPERSEDED}:
            self.unanswered[name] -= 1
            self.check(self.unanswered[name] == 0, "every end of a reload had a beginning")
        if kind is NoticeKind.RELOAD_ROLLED_BACK and name not in self.ending and self.stopping_at is None:
            same = self._generation_now(name) == self.serving_generation[name]
            self.check(same, "a failed reload leaves the serving generation as it was")

    def _nothing_waits_for_ever(self, now: float) -> None:
        for each in self.world.procs.values():
            if each.site is None or not each.lives:
                continue
            boot_timeout_s = (
                6.0  # the longest that this world configures; the limit may have changed meanwhile
            )
            if each.ready_at is None and each.kind != "hook":
                self.check(
                    now - each.asked_at <= 2 * (boot_timeout_s + EXIT_S),
                    f"{each.kind} {each.proc} boots for ever",
                )
            if each.told_at is not None:
                self.check(
                    now - each.told_at <= 8.0 + KILL_SLACK_S + EXIT_S,
                    f"{each.kind} {each.proc} leaves for ever",
                )
            if each.overdue_at is not None and each.kind == "worker":
                self.check(
                    now - each.overdue_at <= 8.0 + KILL_SLACK_S + 0.5,
                    f"{each.kind} {each.proc} is stuck for ever",
                )
        deadline = self.fleet.deadline
        self.check(deadline is None or deadline > now, "the fleet does not ask for the past")

    def _books_agree(self, now: float) -> None:
        for each in self.world.procs.values():
            if each.lives:
                self.check(self.fleet.process(each.proc) is not None, f"{each.kind} {each.proc} is forgotten")
        for site in self.picture.sites:
            name = SiteName(site.name)
            if site.generation:
                known = self.serving_generation[name]
                asked = site.generation == self.asked_back[name]
                self.check(
                    site.generation >= known or asked,
                    "what serves is never replaced by what is older, unless that was asked for",
                )
                if site.generation != known:
                    self.asked_back[name] = 0
                self.serving_generation[name] = site.generation

    # --- rest ----------------------------------------------------------------------------------

    def replaces(self) -> bool:
        """Whether some worker has just had enough."""
        return not all(each.serves for each in self.world.living(kind="worker"))

    def at_rest(self) -> None:
        """All faults have ended long ago: the fleet must be what the settings describe."""
        assert self.settings is not None
        now = self.world.now
        self.picture.take(now)
        snapshot = {each.name: each for each in self.picture.sites}
        self.check(
            set(snapshot) == {site.name for site in self.settings.sites}, "sites come and go as configured"
        )
        wanted, waiting = set(), set()
        for site in self.settings.sites:
            name, shown = site.name, snapshot[site.name]
            if name in self.stops:
                continue  # nothing of it is left, nor bound: judged at every step, and below
            if self._waits_for_another(shown, snapshot):
                waiting |= set(site.listen)
                continue
            if self.scales.is_settled(shown, site):
                wanted |= set(site.listen)
                continue
            workers, promise = self.world.living(name, "worker"), self.promise(name)
            self.check(shown.state is SiteState.SERVING, f"{name} rests {shown.state.value}, {shown.error}")
            self.check(shown.error is None, f"{name} serves and yet shows an error")
            self.check(
                len(workers) == promise, f"{name} rests with {len(workers)} workers, {promise} are promised"
            )
            self.check(all(each.serves for each in workers), f"{name} rests with workers that do not serve")
            one = all(each.generation == shown.generation for each in workers)
            self.check(one, f"{name} rests with workers of one generation")
            told = not any(plan.must_tell(each.limits, site.limits) for each in workers)
            self.check(told, f"{name} rests with workers that know its limits")
            tired = [each.proc for each in workers if each.tired]
            self.check(not tired, f"{name} rests with workers that have had enough: {tired}")
            templates = self.world.living(name, "template")
            alone = [each.generation for each in templates] == [shown.generation]
            self.check(
                alone or (not templates and self._needs_no_template(name)), f"{name} rests with its template"
            )
            ended = shown.last_reload is None or shown.last_reload.result is not ReloadResult.RUNNING
            self.check(ended and self.unanswered[name] == 0, f"{name} rests while a reload runs")
            wanted |= set(self.world.generations[name, Generation(shown.generation)].listen)
        self.programs.at_rest(self.settings)
        self.trials.at_rest()
        dashboard = self.settings.dashboard
        wanted |= set() if dashboard is None else {dashboard.listen}
        bound = self.world.bound
        self.check(wanted <= bound <= wanted | waiting, "what is bound is what serves")
        self.check(
            len(self.world.living(kind="dashboard")) == (dashboard is not None),
            "the dashboard runs as configured",
        )

    def _waits_for_another(self, shown: SiteSnapshot, snapshot: dict[str, SiteSnapshot]) -> bool:
        """Whether it cannot have an address because another site, whose reload failed, serves on it."""
        return any(
            shown.error is not None
            and f'belongs to site "{other.name}"' in shown.error
            and other.last_reload is not None
            and other.last_reload.result is ReloadResult.ROLLED_BACK
            for other in snapshot.values()
        )

    def is_as_configured(self) -> None:
        """The last reload was of everything and in calm times: nothing old is left."""
        assert self.settings is not None
        for shown in self.picture.sites:
            site = self.settings.site(SiteName(shown.name))
            if SiteName(shown.name) in self.stops:
                continue
            if shown.generation == 0 and self.sleeps(SiteName(shown.name)):
                continue  # what it loads when it wakes is what is configured
            loaded = self.world.generations[SiteName(shown.name), Generation(shown.generation)]
            same = site is not None and not plan.needs_generation(plan.changes(loaded, site))
            self.check(same, f"{shown.name} serves what is configured")
            done = shown.last_reload is not None and shown.last_reload.result is ReloadResult.DONE
            self.check(done, f"{shown.name}: the last reload is done")

    def has_ended(self) -> None:
        """A stop was asked for long ago."""
        self.check(self.quit and self.fleet.done, "a stop ends in a quit")
        self.check(not self.world.bound, "no listener outlives a stop")

    def _needs_no_template(self, name: SiteName) -> bool:
        shown = self.picture.site(name)
        assert shown is not None
        settings = self.world.generations[name, Generation(shown.generation)]
        return settings.preload is Preload.NEVER or (
            settings.preload is Preload.AUTO and any("without a template" in note for note in shown.notes)
        )
