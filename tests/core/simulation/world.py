"""A world for the fleet: processes, listeners and operators, all played from one seed.

It performs the fleet's actions and answers with events after random delays, with random faults.
It knows the truth (who lives, who serves) and judges nothing: that is done by ``invariants.py``.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from core.simulation.programs import ProgramWorld
from core.simulation.stops import Stops
from core.simulation.trials import TrialWorld
from core.simulation.visitors import Visitors
from djsup.core.actions import (
    BindListener,
    BootWorker,
    CloseListener,
    CloseRoute,
    DrainWorker,
    DumpStacks,
    ForgetGeneration,
    ForgetSite,
    ForkWorker,
    KillProcess,
    OpenRoute,
    Publish,
    Quit,
    RunHook,
    StartDashboard,
    StartKeeper,
    StartProgram,
    StartTemplate,
    TellLimits,
    UnwatchListener,
    WatchListener,
)
from djsup.core.estate import Estate, WorkerLeft
from djsup.core.estate import Stage as Left
from djsup.core.events import (
    DeadlinePassed,
    Event,
    Exit,
    ListenerBound,
    ListenerFailed,
    MemorySampled,
    ProcessExited,
    ProcessStarted,
    ReloadAsked,
    RequestOverdue,
    RestartAsked,
    RollbackAsked,
    ScaleAsked,
    SettingsChanged,
    SpawnFailed,
    StopAsked,
    TemplateFailed,
    TemplateLoaded,
    WorkerFailed,
    WorkerReady,
)
from djsup.core.fleet import Fleet
from djsup.core.model import (
    Address,
    AddressKind,
    DashboardSettings,
    Generation,
    Limits,
    Pid,
    Preload,
    ProcId,
    Settings,
    SiteName,
    SiteSettings,
    Slot,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.actions import Action

ADDRESSES = [Address(AddressKind.TCP, "127.0.0.1", port) for port in range(8000, 8006)]
DASHBOARD = DashboardSettings(Address(AddressKind.TCP, "127.0.0.1", 9000), "/token")
NAMES = [SiteName("blog"), SiteName("shop"), SiteName("wiki")]


class Code(Enum):
    """How the code on a site's disk behaves."""

    GOOD = "good"
    BROKEN = "the import fails"
    HANGS = "the import hangs"
    CRASHES = "the import ends the process"
    SICK = "the health question fails"
    DEAF = "a new worker hangs"
    DIES = "a worker dies soon after it is ready"
    UNSAFE = "good, but not safe to fork"
    FLAKY = "any of these"


class Stage(Enum):
    """How far a process of the world is, as far as the fleet was told."""

    ASKED = "asked"
    STARTED = "started"
    READY = "ready"  # or loaded
    FAILED = "failed"
    GONE = "gone"


@dataclass(eq=False)
class Proc:
    """The truth of one process."""

    proc: ProcId
    kind: str
    site: SiteName | None
    generation: Generation
    asked_at: float
    slot: Slot | None = None
    template: ProcId | None = None
    limits: Limits = field(default_factory=Limits)
    stage: Stage = Stage.ASKED
    told_at: float | None = None
    """When it was told to end, or said that it fails."""
    drained: bool = False
    killed: bool = False
    overdue_at: float | None = None
    ready_at: float | None = None
    tired: bool = False
    stuck: bool = False
    """A template that does not fork any more."""
    blamed: bool = False
    """Its early end was counted by the judge."""
    over: bool = False
    """The world has ended it; the fleet may not know yet."""

    @property
    def lives(self) -> bool:
        return self.stage is not Stage.GONE

    @property
    def serves(self) -> bool:
        return (
            self.kind == "worker"
            and self.stage is Stage.READY
            and self.told_at is None
            and self.overdue_at is None
        )


class World:
    """Plays one history."""

    def __init__(self, seed: int, fleet: Fleet) -> None:
        self.random = random.Random(seed)
        self.fleet = fleet
        self.now = self.random.choice([0.0, 12.5, 86_400.0 * 365])
        self.calm = False
        self.code: dict[SiteName, Code] = dict.fromkeys(NAMES, Code.GOOD)
        self.procs: dict[ProcId, Proc] = {}
        self.bound: set[Address] = set()
        self.taken: set[Address] = set()
        """Addresses that something else listens on."""
        self._queue: list[tuple[float, int, Callable[[], Event | None]]] = []
        self._count = 0
        self._pid = 1000
        self._daemon = 1
        """Which daemon it is; an answer to one that is dead reaches nobody."""
        self.visitors = Visitors(seed, self)
        self.programs = ProgramWorld(seed, self)
        self.trials = TrialWorld(seed, self)
        self.stops = Stops(seed, self)
        self.settings = self._first_settings()
        self.generations: dict[tuple[SiteName, Generation], SiteSettings] = {}

    # --- time ----------------------------------------------------------------------------------

    def later(self, delay_s: float, what: Callable[[], Event | None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, what))

    def next_event(self, until: float) -> Event | None:
        """The next thing that happens, None: nothing before ``until``."""
        while True:
            deadline = self.fleet.deadline
            due = self._queue[0][0] if self._queue else None
            times = [each for each in (deadline, due) if each is not None]
            if not times or min(times) > until:
                self.now = max(self.now, until)
                return None
            self.now = max(self.now, *([min(times)]))
            if due is None or (deadline is not None and deadline < due):
                return DeadlinePassed()
            event = heapq.heappop(self._queue)[2]()
            if event is not None:
                return event

    def delay(self) -> float:
        return self.random.choice([0.0, 0.001, 0.01, 0.1, self.random.uniform(0, 1)])

    def chance(self, probability: float) -> bool:
        """Whether a fault happens; never in calm times."""
        return not self.calm and self.random.random() < probability

    # --- actions -------------------------------------------------------------------------------

    def perform(self, action: Action) -> None:
        match action:
            case BindListener(address):
                self._bind(address)
            case CloseListener(address):
                self.bound.discard(address)
                self.visitors.watched.discard(address)
            case WatchListener(address):
                assert address in self.bound, "only a listener that is bound is watched"
                self.visitors.watch(address)
            case UnwatchListener(address):
                self.visitors.watched.discard(address)
            case StartTemplate(proc, generation, site):
                self.generations[site.name, generation] = site
                self._start(Proc(proc, "template", site.name, generation, self.now))
            case ForkWorker(proc, template, name, generation, slot):
                limits = self.generations[name, generation].limits
                self._fork(
                    Proc(proc, "worker", name, generation, self.now, slot, template, limits),
                    self.procs[template],
                )
            case BootWorker(proc, generation, slot, site):
                self.generations[site.name, generation] = site
                self._start(Proc(proc, "worker", site.name, generation, self.now, slot, limits=site.limits))
            case StartDashboard(proc):
                self._start(Proc(proc, "dashboard", None, Generation(0), self.now))
            case DrainWorker(proc, _, timeout_s):
                self._drain(self.procs[proc], timeout_s)
            case TellLimits(proc, limits):
                self.procs[proc].limits = limits
            case StartProgram():
                self.programs.start(action)
            case StartKeeper(proc):
                self.programs.start_keeper(proc)
            case KillProcess(proc, signal) if proc in self.programs.keepers:
                self.programs.kill_keeper(proc, signal)
            case RunHook(proc, site):
                self._start(Proc(proc, "hook", site.name, Generation(0), self.now))
            case KillProcess(proc, signal) if proc in self.programs.procs:
                self.programs.kill(proc, signal)
            case KillProcess(proc, signal):
                self._kill(self.procs[proc], signal)
            case DumpStacks() | ForgetGeneration() | ForgetSite() | Publish() | Quit():
                pass
            case CloseRoute() | OpenRoute():
                pass

    def _bind(self, address: Address) -> None:
        """It is bound at once; the answer waits in the queue as every event does."""
        answer: Event
        if address in self.bound or address not in self.taken or self.calm:
            self.bound.add(address)
            answer = ListenerBound(address)
        else:
            answer = ListenerFailed(address, "address already in use")
        daemon = self._daemon
        self.later(self.delay() / 10, lambda: answer if self._daemon == daemon else None)

    def _start(self, each: Proc) -> None:
        """A process by exec."""
        self.procs[each.proc] = each
        if self.chance(0.03):
            self.later(
                self.delay(), lambda: self._spawn_failed(each, "fork: Resource temporarily unavailable")
            )
        else:
            self.later(self.delay() / 10, lambda: self._started(each))

    def _fork(self, each: Proc, template: Proc) -> None:
        self.procs[each.proc] = each
        if template.over or self.chance(0.02):
            self.later(self.delay(), lambda: self._spawn_failed(each, "its template is gone"))
        elif not template.stuck:
            self.later(self.delay() / 10, lambda: self._started(each))

    def _spawn_failed(self, each: Proc, error: str) -> Event | None:
        if each.over:
            return None
        each.over = True
        each.stage = Stage.GONE
        return SpawnFailed(each.proc, error)

    def _started(self, each: Proc) -> Event | None:
        if each.over:
            return None
        each.stage = Stage.STARTED
        self._pid += 1
        if each.killed:
            self._end(each, Exit(signal="SIGKILL"), self.delay() / 10)
        elif each.drained:  # SIGTERM that waited for the pid
            self._end(each, Exit(signal="SIGTERM"), self.delay() / 10)
        elif each.kind == "template":
            self._load(each)
        elif each.kind == "worker":
            self._boot(each)
        elif each.kind == "hook":
            self.trials.runs(each)
        else:
            each.ready_at = self.now
            if self.chance(0.3):
                self._end(each, Exit(1), self.random.uniform(0, 20))
        return ProcessStarted(each.proc, Pid(self._pid))

    def _behaviour(self, each: Proc) -> Code:
        code = Code.GOOD if each.site is None or self.calm else self.code[each.site]
        if code is Code.FLAKY:
            code = self.random.choice(list(Code))
        if code is Code.UNSAFE and self.calm:
            code = Code.GOOD
        return code

    def _load(self, each: Proc) -> None:
        match self._behaviour(each):
            case Code.BROKEN:
                self.later(self.delay(), lambda: self._say_failed(each))
            case Code.HANGS:
                pass
            case Code.CRASHES:
                self._end(each, Exit(signal="SIGSEGV", core_dumped=True), self.delay())
            case Code.UNSAFE:
                self.later(self.delay(), lambda: self._loaded(each, ("2 threads run",)))
            case _:
                self.later(self.delay(), lambda: self._loaded(each, ()))

    def _boot(self, each: Proc) -> None:
        behaviour = self._behaviour(each)
        if each.template is not None and behaviour in {Code.BROKEN, Code.HANGS, Code.CRASHES, Code.UNSAFE}:
            behaviour = Code.GOOD  # the import is behind it
        match behaviour:
            case Code.BROKEN | Code.SICK:
                self.later(self.delay(), lambda: self._say_failed(each))
            case Code.HANGS | Code.DEAF:
                pass
            case Code.CRASHES:
                self._end(each, Exit(1), self.delay())
            case Code.DIES:
                self.later(self.delay(), lambda: self._ready(each, lives_s=self.random.uniform(0, 2)))
            case _:
                self.later(self.delay(), lambda: self._ready(each, lives_s=None))

    def _say_failed(self, each: Proc) -> Event | None:
        if each.over:
            return None
        if not (each.kind == "template" and self.chance(0.2)):  # some never end by themselves
            self._end(each, Exit(3), self.delay())
        if each.stage is Stage.STARTED:
            each.stage = Stage.FAILED
            each.told_at = self.now if each.told_at is None else each.told_at
        if each.kind == "template":
            return TemplateFailed(each.proc, "cannot import", "Traceback ...")
        return WorkerFailed(each.proc, "the health path answered 500", "body ...")

    def _loaded(self, each: Proc, unsafe: tuple[str, ...]) -> Event | None:
        if each.over:
            return None
        if each.stage is Stage.STARTED:
            each.stage = Stage.READY
            each.ready_at = self.now
        return TemplateLoaded(each.proc, 0.5, "3.11", "5.2", unsafe)

    def _ready(self, each: Proc, lives_s: float | None) -> Event | None:
        if each.over:
            return None
        if each.stage is Stage.STARTED:
            each.stage = Stage.READY
            each.ready_at = self.now
        if lives_s is not None:
            self._end(each, Exit(signal="SIGSEGV", core_dumped=True), lives_s)
        return WorkerReady(each.proc)

    def end(self, each: Proc, how: Exit, delay_s: float) -> None:
        """It ends after a while."""
        self._end(each, how, delay_s)

    def _end(self, each: Proc, how: Exit, delay_s: float) -> None:
        self.later(delay_s, lambda: self._exited(each, how))

    def _exited(self, each: Proc, how: Exit) -> Event | None:
        if each.over:
            return None
        each.over = True
        each.stage = Stage.GONE
        if each.kind == "template":
            for child in self.procs.values():
                if child.template == each.proc and child.stage is Stage.ASKED and not child.over:
                    self.later(self.delay(), partial(self._spawn_failed, child, "its template died"))
        return ProcessExited(each.proc, how)

    def _drain(self, each: Proc, timeout_s: float) -> None:
        each.told_at, each.drained = self.now, True
        if self.chance(0.1):
            return  # stuck: it has to be killed
        takes_s = self.random.uniform(0, timeout_s) if self.chance(0.3) else self.delay() / 20
        self._end(each, Exit(0), takes_s)

    def _kill(self, each: Proc, signal: str) -> None:
        if each.over:
            return
        each.told_at = self.now if each.told_at is None else each.told_at
        if signal == "SIGKILL":
            each.killed = True
            if each.stage is Stage.ASKED and each.kind == "worker" and each.template is not None:
                return  # no pid yet: it waits for the template, or for its end
            if each.stage is not Stage.ASKED:
                self._end(each, Exit(signal=signal), self.delay() / 10)
        elif each.stage is Stage.ASKED:
            each.drained = True
        elif not self.chance(0.1):
            self._end(each, Exit(0), self.delay() / 10)

    # --- operators and accidents ---------------------------------------------------------------

    def _first_settings(self) -> Settings:
        sites = []
        for index, name in enumerate(NAMES[: self.random.choice([1, 1, 2])]):
            site = SiteSettings(
                name,
                f"/srv/{name}",
                "/usr/bin/python3",
                (ADDRESSES[index],),
                workers=self.visitors.count(self.random.randint(1, 5)),
                scaling=self.visitors.policy(),
                preload=self.random.choice([Preload.AUTO, Preload.AUTO, Preload.ALWAYS, Preload.NEVER]),
                limits=self._limits(),
                reload=self.trials.policy(self.random.choice([1, 1, 2]), self.random.choice([0.0, 5.0])),
                programs=self.programs.some(),
            )
            sites.append(site)
        dashboard = self.random.choice([None, DASHBOARD])
        grace_s = self.programs.grace_s
        return Settings("/etc/djsup.toml", "/run/djsup", tuple(sites), dashboard, orphan_grace_s=grace_s)

    def _limits(self) -> Limits:
        return Limits(
            boot_timeout_s=self.random.choice([3.0, 6.0]),
            drain_timeout_s=self.random.choice([2.0, 8.0]),
            stable_after_s=4.0,
            max_memory_bytes=self.random.choice([0, 1000]),
            max_requests=self.random.choice([0, 100]),
            max_lifetime_s=self.random.choice([0.0, 0.0, 30.0]),
            keepalive_s=self.random.choice([5.0, 15.0]),
        )

    def accident(self) -> Event | None:
        """Something that nobody of ours asked for."""
        living = [each for each in self.procs.values() if each.stage in {Stage.STARTED, Stage.READY}]
        if not living:
            return None
        each = self.random.choice(living)
        match self.random.choice(["kill", "kill", "overdue", "tired", "stuck", "tired", "deploy", "ports"]):
            case "kill":
                how = Exit(signal="SIGKILL", out_of_memory=self.random.random() < 0.5)
                return self._exited(each, how)
            case "overdue" if each.kind == "worker" and each.ready_at is not None:
                each.overdue_at = self.now if each.overdue_at is None else each.overdue_at
                return RequestOverdue(each.proc, "GET", "/slow", 31.0)
            case "tired" if each.kind == "worker" and each.serves:
                limits = self.site_settings(each).limits
                each.tired = each.tired or bool(limits.max_memory_bytes or limits.max_requests)
                return MemorySampled(each.proc, 5000, 500)
            case "stuck" if each.kind == "template":
                each.stuck = True
            case "deploy":
                self.code[self.random.choice(NAMES)] = self.random.choice([Code.GOOD, *Code])
            case "ports":
                self.taken = set(self.random.sample(ADDRESSES, self.random.choice([0, 0, 1, 2])))
            case _:
                pass
        return None

    def order(self) -> Event:
        """Something that an operator asks for."""
        name = self.random.choice(self.settings.sites).name if self.settings.sites else NAMES[0]
        orders = [
            "reload",
            "reload",
            "reload",
            "rollback",
            "rollback",
            "scale",
            "restart",
            "settings",
            "settings",
        ]
        match self.random.choice(orders):
            case "reload":
                return ReloadAsked(name, "root (cli)", self.trials.asked())
            case "rollback":
                return RollbackAsked(name, "root (cli)")
            case "scale":
                if self.random.random() < 0.5:
                    return ScaleAsked(name, self.random.choice([-2, -1, 1, 2]), "root (cli)", relative=True)
                return ScaleAsked(name, self.random.choice([0, 1, 2, 3, 5]), "root (cli)")
            case "restart" if self.random.random() < 0.4:
                return RestartAsked(name, "root (cli)")
            case _:
                return self.change_settings(self.changed())

    def change_settings(self, settings: Settings, *, reload_all: bool = False) -> SettingsChanged:
        self.settings = settings
        names = frozenset(site.name for site in settings.sites)
        reload = names if reload_all or self.random.random() < 0.5 else frozenset[SiteName]()
        return SettingsChanged(settings, "root (HUP)", reload)

    def changed(self) -> Settings:
        sites = list(self.settings.sites)
        what = self.random.choice(
            ["add", "remove", "listen", "limits", "workers", "env", "dashboard", "nothing"]
        )
        index = self.random.randrange(len(sites)) if sites else 0
        free = [each for each in ADDRESSES if all(each not in site.listen for site in sites)]
        if what == "add" and len(sites) < len(NAMES) and free:
            name = next(each for each in NAMES if all(each != site.name for site in sites))
            site = SiteSettings(
                name,
                f"/srv/{name}",
                "/usr/bin/python3",
                (self.random.choice(free),),
                limits=self._limits(),
                scaling=self.visitors.policy(),
            )
            site = replace(site, programs=self.programs.some())
            sites.append(site)
        elif not sites or what == "nothing":
            pass
        elif what == "remove":
            del sites[index]
        elif what == "listen" and free:
            listen = (self.random.choice(free), *sites[index].listen)[: self.random.choice([1, 2])]
            sites[index] = replace(sites[index], listen=listen)
        elif what == "limits":
            sites[index] = replace(sites[index], limits=self._limits())
        elif what == "workers":
            sites[index] = replace(sites[index], workers=self.visitors.count(self.random.randint(1, 6)))
        elif what == "env":
            sites[index] = replace(sites[index], env=(("VERSION", str(self.random.random())),))
        elif what == "dashboard":
            dashboard = self.random.choice([None, DASHBOARD, replace(DASHBOARD, token_file="/other")])
            return replace(self.settings, dashboard=dashboard)
        return replace(self.settings, sites=tuple(sites))

    def move(self, site: SiteSettings) -> SettingsChanged:
        """A site listens elsewhere, where there is an address left, and nothing else is asked for."""
        free = [each for each in ADDRESSES if all(each not in one.listen for one in self.settings.sites)]
        free = free or list(site.listen)
        moved = replace(site, listen=(free[0],))
        sites = tuple(moved if each is site else each for each in self.settings.sites)
        self.settings = replace(self.settings, sites=sites)
        return SettingsChanged(self.settings, "root (HUP)")

    # --- the daemon's death --------------------------------------------------------------------

    def daemon_dies(self, gap_s: float) -> None:
        """The daemon is killed, and nobody hears anything for a while."""
        self._daemon += 1
        self.visitors.watched.clear()
        self.programs.daemon_dies()
        for each in self.procs.values():
            if each.kind in {"dashboard", "hook"} or each.stage is Stage.ASKED:
                each.over = True  # it ends with its daemon, or never comes to be
                each.stage = Stage.GONE
        until = self.now + gap_s
        while self._queue and self._queue[0][0] <= until:
            at, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            what()
        self.now = until

    def hand_over(self) -> bool:
        """The daemon's program is replaced, if now is a time: what no template has forked yet, never says hello."""
        asked = [each for each in self.procs.values() if each.stage is Stage.ASKED]
        if any(each.template is None for each in asked):
            return False  # the shell has handled all that it was asked for before it hands over
        for each in asked:
            each.over = True
            each.stage = Stage.GONE
        self.visitors.watched.clear()
        return True

    def adopt(self, written: list[Estate], fleet: Fleet) -> tuple[Estate, ...]:
        """What is left of what was written down, as the shell finds it."""
        self.fleet = fleet
        self.bound = set()
        adopted = []
        for estate in written:
            lives = {each.proc for each in estate.processes if each.proc in self.procs}
            lives = {proc for proc in lives if self.procs[proc].lives}
            templates = tuple(each for each in estate.templates if each.proc in lives)
            workers = tuple(each for each in estate.workers if each.proc in lives)
            left = replace(estate, templates=templates, workers=tuple(map(self._heard_of, workers)))
            left = self.programs.adopt(left)
            if not lives:
                if left.stopped_by is not None or any(each.pid is not None for each in left.helpers):
                    adopted.append(replace(left, serving=None))
                continue
            if left.serving is not None and self.random.random() < 0.1:
                left = self._lost(left)
            if left.serving is not None:
                self.bound |= set(self.generations[left.settings.name, left.serving].listen)
            adopted.append(left)
        return tuple(adopted)

    def _lost(self, left: Estate) -> Estate:
        """Everybody was too busy to call, so its sockets are lost; its workers are told to go by a signal."""
        for each in left.workers:
            if self.procs[each.proc].told_at is None:
                self._drain(self.procs[each.proc], left.settings.limits.drain_timeout_s)
        workers = tuple(replace(each, stage=Left.LEAVING) for each in left.workers)
        for held in left.templates:
            self.procs[held.proc].over = True
            self.procs[held.proc].stage = Stage.GONE
        return replace(left, serving=None, templates=(), workers=workers)

    def _heard_of(self, worker: WorkerLeft) -> WorkerLeft:
        """What a worker says as it calls, and what the new daemon sees of it."""
        each = self.procs[worker.proc]
        each.tired = False  # it is measured anew
        if each.told_at is not None:
            each.told_at = self.now
        if each.overdue_at is not None:
            each.overdue_at = None
            self.later(1.0, lambda: self._overdue(each))
        ready = worker.stage is Left.BOOTING and each.stage is Stage.READY
        return replace(worker, stage=Left.SERVING) if ready else worker

    def _overdue(self, each: Proc) -> Event | None:
        if each.over:
            return None
        each.overdue_at = self.now
        return RequestOverdue(each.proc, "GET", "/slow", 31.0)

    def stop(self) -> StopAsked:
        return StopAsked("root (SIGTERM)", at_once=self.random.random() < 0.2)

    def bury(self) -> None:
        """Forget who is gone and was judged."""
        for proc in [each.proc for each in self.procs.values() if not each.lives]:
            del self.procs[proc]
        self.programs.bury()

    # --- questions -----------------------------------------------------------------------------

    def site_settings(self, each: Proc) -> SiteSettings:
        assert each.site is not None
        found = self.settings.site(each.site)
        return self.generations[each.site, each.generation] if found is None else found

    def living(self, site: SiteName | None = None, kind: str | None = None) -> list[Proc]:
        return [
            each
            for each in self.procs.values()
            if each.lives and (site is None or each.site == site) and (kind is None or each.kind == kind)
        ]
