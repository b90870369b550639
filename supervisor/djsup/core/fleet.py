"""All pools and listeners and djsup's own processes: routes events, knows the nearest deadline, gives the snapshot.

The one door into the core. ``handle`` takes what happened and gives what to do; nothing in here
reads a clock or touches the world. What one site does about an event is decided in ``pool.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, assert_never

from djsup.core.actions import NoticeKind, Publish, Quit
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
from djsup.core.keeper import Keeper
from djsup.core.listeners import Listeners
from djsup.core.memory import ProcessLeft
from djsup.core.model import DASHBOARD, KEEPER, ROUTER, Generation, Pid, ProcId, SiteName, Slot
from djsup.core.own_process import ROLES, OwnProcess
from djsup.core.picture import site_snapshot
from djsup.core.pool import Pool
from djsup.core.server import Server
from djsup.core.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djsup.core.actions import Action
    from djsup.core.estate import Estate
    from djsup.core.events import Event, Replaced
    from djsup.core.model import Address, Settings
    from djsup.core.program import State as ProgramState
    from djsup.core.snapshot import ReloadReport, SiteSnapshot


class ProcessKind(Enum):
    """What a process is."""

    TEMPLATE = "template"
    """Imported a site's application and forks its workers."""
    WORKER = "worker"
    """Serves requests."""
    PROGRAM = "program"
    """Helps a site."""
    ROUTER = "router"
    """Passes requests on shared addresses to workers."""
    KEEPER = "keeper"
    """Holds what programs need to outlive the daemon."""
    DASHBOARD = "dashboard"
    """Shows all this in a browser."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """What the shell may know of a process, to label its output and its samples."""

    proc: ProcId
    kind: ProcessKind
    pid: Pid | None
    site: SiteName | None = None
    generation: Generation | None = None
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class DashboardView:
    """The dashboard's process; ``pid`` is None while there is none."""

    wanted: bool
    state: ProgramState
    pid: Pid | None
    error: str | None


class Fleet:
    """All that the daemon decides."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.done = False
        """Quit was said."""
        self._stopping = False
        self._pools: dict[SiteName, Pool] = {}
        self._owners: dict[ProcId, SiteName] = {}
        """Whose process it is."""
        self._listeners = Listeners()
        self._own = {owner: OwnProcess(owner, self._new_proc) for owner in ROLES}
        """djsup's own processes."""
        self._dashboard = Server(self._own[DASHBOARD], self._listeners)
        self._router = Server(self._own[ROUTER], self._listeners)
        self._servers = {DASHBOARD: self._dashboard, ROUTER: self._router}
        self._keeper = Keeper(self._own[KEEPER])
        self._last_proc = 0
        self._touched: set[SiteName] = set()
        """Sites that something has happened to since ``take_estates``."""

    # --- the door ------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take a fact in. Gives what is to be done, in this order.

        ``now`` is a reading of the monotonic clock in seconds and never goes back.

        Raises:
            UnknownMoveError: the shell told what cannot have happened.
            KeyError: it names a process that was never asked for.
        """
        if self.done:
            return []
        out: list[Action] = []
        match event:
            case SettingsChanged():
                out += self._change_settings(event, now)
            case SitesAdopted(sites, replaced):
                out += self._adopt(sites, now) if replaced is None else self._inherit(sites, replaced, now)
            case StopAsked():
                out += self._stop(event, now)
            case (
                ReloadAsked(site=site)
                | RestartAsked(site=site)
                | SiteStartAsked(site=site)
                | RollbackAsked(site=site)
                | ScaleAsked(site=site)
                | RunAsked(site=site)
                | LoadSampled(site=site)
                | GenerationsSampled(site=site)
                | RequestWaiting(site=site)
            ):
                out += self._tell(site, event, now)
            case SiteStopAsked(site=site):
                out += self._stop_site(site, event, now)
            case ListenerBound(address):
                out += self._listener_bound(address, event, now)
            case ConnectionWaiting(address):
                if (owner := self._listeners.owner(address)) is not None:
                    out += self._tell(owner, event, now)
            case ListenerFailed(address, error):
                out += self._listener_failed(address, error, event, now)
            case (
                ProcessStarted(proc=proc)
                | SpawnFailed(proc=proc)
                | ProcessExited(proc=proc)
                | TemplateLoaded(proc=proc)
                | TemplateFailed(proc=proc)
                | WorkerReady(proc=proc)
                | WorkerFailed(proc=proc)
                | RequestOverdue(proc=proc)
                | MemorySampled(proc=proc)
                | ProgramSaid(proc=proc)
            ):
                out += self._process_event(proc, event, now)
            case DeadlinePassed():
                pass  # below
            case _:
                assert_never(event)
        for pool in list(self._pools.values()):
            if pool.deadline is not None and pool.deadline <= now:
                out += self._do(pool, pool.handle(DeadlinePassed(), now))
        out += self._listeners.reconcile()
        for server in self._servers.values():
            out += server.keep(now)
        out[:0] = self._keep_keeper(now)  # first: what is started here is given to it
        out += self._quit_if_done()
        return out

    @property
    def deadline(self) -> float | None:
        """When it wants DeadlinePassed, if nothing happens before; None: it waits for events only."""
        times = [pool.deadline for pool in self._pools.values()]
        times += [self._dashboard.deadline, self._router.deadline, self._keeper.process.deadline]
        return min((each for each in times if each is not None), default=None)

    def running(self) -> Settings | None:
        """The settings as they are in force: of a site whose reload failed, what its processes were started with."""
        if self.settings is None:
            return None
        pools = (pool for pool in self._pools.values() if not pool.removed)
        return replace(self.settings, sites=tuple(pool.running() for pool in pools))

    def snapshot(self, now: float) -> tuple[SiteSnapshot, ...]:
        """Every site as it is now, in the order of the configuration; ``started_at`` is monotonic."""
        return tuple(site_snapshot(pool, now) for pool in self._pools.values())

    def last_reload(self, site: SiteName) -> ReloadReport | None:
        """How the last reload of a site went, or goes; ``started_at`` is monotonic."""
        pool = self._pools.get(site)
        return None if pool is None else pool.generations.last_reload

    def take_estates(self) -> dict[SiteName, Estate | None]:
        """What would be left of each site that something has happened to since the last call; None: nothing."""
        pools = {name: self._pools.get(name) for name in self._touched}
        self._touched.clear()
        return {name: None if pool is None else pool.estate() for name, pool in pools.items()}

    def bequest(self) -> tuple[tuple[Estate, ...], int, ProcessLeft, ProcessLeft]:
        """What the program needs that replaces the daemon's: the sites, the last process's name, dashboard, keeper."""
        sites = tuple(pool.bequest() for pool in self._pools.values())
        dashboard, keeper = (ProcessLeft.of(self._own[owner]) for owner in (DASHBOARD, KEEPER))
        return sites, self._last_proc, dashboard, keeper

    def process(self, proc: ProcId) -> ProcessView | None:
        """What a process is; None when it is gone or was never asked for."""
        if proc not in self._owners:
            return None
        site = self._owners[proc]
        if (own := self._own.get(site)) is not None:
            return ProcessView(proc, ProcessKind(own.role.name), own.pid)
        pool = self._pools[site]
        program = pool.programs.process(proc) or pool.generations.hooks.process(proc)
        if program is not None:
            return ProcessView(proc, ProcessKind.PROGRAM, program.pid, site)
        found = self._pools[site].process(proc)
        if isinstance(found, Template):
            return ProcessView(proc, ProcessKind.TEMPLATE, found.pid, site, found.generation)
        return ProcessView(proc, ProcessKind.WORKER, found.pid, site, found.generation, found.slot)

    @property
    def dashboard(self) -> DashboardView:
        """The dashboard's process."""
        return DashboardView(
            self.settings is not None and self.settings.dashboard is not None,
            self._dashboard.process.state,
            self._dashboard.process.pid,
            self._dashboard.error,
        )

    # --- events --------------------------------------------------------------------------------

    def _tell(self, site: SiteName, event: Event, now: float) -> list[Action]:
        """Let a site handle an event; a site that is not there any more has nothing to say to it."""
        pool = self._pools.get(site)
        return [] if pool is None else self._do(pool, pool.handle(event, now))

    def _do(self, pool: Pool, actions: list[Action]) -> list[Action]:
        """Keep the books after a pool has decided: what it needs, which processes are its."""
        self._touched.add(pool.site.name)
        self._listeners.want(pool.site.name, pool.addresses())
        self._listeners.reloads(pool.site.name, pool.generations.reloads_to())
        if pool.forgotten:
            del self._pools[pool.site.name]
            self._listeners.forget(pool.site.name)
        return actions

    def _process_event(self, proc: ProcId, event: Event, now: float) -> list[Action]:
        if proc not in self._owners:
            if 0 < proc <= self._last_proc:
                return []  # gone already: its last words were on their way
            raise KeyError(f"no process {proc} was ever asked for")
        site = self._owners[proc]
        if isinstance(event, (ProcessExited, SpawnFailed)):
            del self._owners[proc]
        own = self._own.get(site)
        return self._tell(site, event, now) if own is None else own.handle(event, now)

    def _adopt(self, sites: tuple[Estate, ...], now: float) -> list[Action]:
        """Take the pools over as they are; what has to change is seen when the settings come."""
        for left in sites:
            name = left.settings.name
            pool = Pool(left.settings, self._listeners, partial(self._new_proc, name))
            pool.adopt(left, now)
            self._pools[name] = pool
            if left.serving is not None:
                self._listeners.adopt(name, pool.addresses())
            helpers = [each.proc for each in left.helpers if each.proc is not None]
            for proc in (*(each.proc for each in left.processes), *helpers):
                self._last_proc = max(self._last_proc, proc)
            for proc in (*(each.proc for each in left.processes), *pool.programs.procs):
                self._owners[proc] = name
            if pool.programs.living:
                self._keeper.adopt()
        return [action for left in sites for action in self._pools[left.settings.name].site.take()]

    def _inherit(self, sites: tuple[Estate, ...], replaced: Replaced, now: float) -> list[Action]:
        """Go on where the program was that ran before in this process."""
        self.settings, self._last_proc = replaced.settings, replaced.last_proc
        out: list[Action] = []
        pools: list[tuple[Pool, Estate]] = []
        for left in sites:
            name = left.settings.name
            pool = self._pools[name] = Pool(left.settings, self._listeners, partial(self._new_proc, name))
            pools.append((pool, left))
            serving = next((each for each in left.generations if each.number == left.serving), None)
            if serving is not None:
                self._listeners.adopt(name, serving.settings.listen)
        for pool, left in pools:
            assert left.memory is not None
            out += self._do(pool, pool.inherit(left, left.memory, now))
            hooks = (each.proc for each in left.memory.generations.hooks)
            for proc in (*(each.proc for each in left.processes), *pool.programs.procs, *hooks):
                self._owners[proc] = pool.site.name
        self._serve(replaced.settings)  # a new router: it goes on where the one before was
        for owner, known in ((DASHBOARD, replaced.dashboard), (KEEPER, replaced.keeper)):
            if known is not None:
                out += self._own[owner].inherit(known, now, anew=replaced.dashboard_anew)
                if known.proc is not None:
                    self._owners[known.proc] = owner
        if replaced.keeper is not None:
            self._keeper.adopt()
        return out

    def _change_settings(self, event: SettingsChanged, now: float) -> list[Action]:
        if self._stopping:
            return []
        old, self.settings = self.settings, event.settings
        out: list[Action] = []
        names = {site.name for site in event.settings.sites}
        for pool in [each for each in self._pools.values() if each.site.name not in names]:
            out += self._remove(pool, event.by, now)
        for site in event.settings.sites:
            pool_there = self._pools.get(site.name)
            if pool_there is None:
                pool = Pool(site, self._listeners, partial(self._new_proc, site.name))
                self._pools[site.name] = pool
                if old is not None:
                    text = f'site "{site.name}": added'
                    out.append(Publish(NoticeKind.SITE_ADDED, text, site.name, by=event.by))
                out += self._do(pool, pool.handle(DeadlinePassed(), now))
            else:
                reload = site.name in event.reload
                changed = pool_there.change(
                    site, event.by, now, reload=reload, canary_s=event.canary_s if reload else None
                )
                out += self._do(pool_there, changed)
        self._pools = {name: self._pools[name] for name in _order(event.settings, self._pools)}
        if old is not None:
            text = f"the configuration was read again from {event.settings.file}"
            out.append(Publish(NoticeKind.SETTINGS_CHANGED, text, by=event.by))
        self._serve(event.settings)
        if old is not None and old.dashboard != event.settings.dashboard:
            ended = self._dashboard.process.end(now)
            out += [] if ended is None else [ended]
        return out

    def _serve(self, settings: Settings) -> None:
        """Have the dashboard and the router listen where these settings say."""
        self._router.change(settings.shared)
        self._dashboard.change(() if settings.dashboard is None else (settings.dashboard.listen,))

    def _remove(self, pool: Pool, by: str, now: float) -> list[Action]:
        """Refuse new connections first, then drain."""
        if pool.removed:
            return []
        text = f'site "{pool.site.name}": removed'
        notice = Publish(NoticeKind.SITE_REMOVED, text, pool.site.name, by=by)
        self._listeners.forget(pool.site.name)
        ended = pool.remove(now)
        return [notice, *self._listeners.reconcile(), *self._do(pool, ended)]

    def _stop_site(self, site: SiteName, event: SiteStopAsked, now: float) -> list[Action]:
        """Refuse new connections first, as when a site is removed."""
        told = self._tell(site, event, now)
        return [*self._listeners.reconcile(), *told]

    def _stop(self, event: StopAsked, now: float) -> list[Action]:
        out: list[Action] = []
        if not self._stopping:
            out.append(Publish(NoticeKind.STOPPING, "djsup stops", by=event.by))
        at_once = event.at_once or self._stopping
        self._stopping = True
        for site in self._pools:
            self._listeners.forget(site)
        ended = [server.end(now, at_once=at_once) for server in self._servers.values()]
        out += self._listeners.reconcile()
        out += [each for each in ended if each is not None]
        for pool in list(self._pools.values()):
            out += self._do(pool, pool.handle(event, now))
        return out

    def _listener_bound(self, address: Address, event: ListenerBound, now: float) -> list[Action]:
        if not self._listeners.knows(address):
            return []
        owner = self._listeners.bound(address)
        if (server := self._servers.get(owner)) is not None:
            server.bound()
            return []
        return self._tell(owner, event, now)

    def _listener_failed(
        self, address: Address, error: str, event: ListenerFailed, now: float
    ) -> list[Action]:
        if not self._listeners.knows(address):
            return []
        owner = self._listeners.failed(address, error)
        if (server := self._servers.get(owner)) is not None:
            return server.not_bound(address, error, now)
        return self._tell(owner, event, now)

    # --- the keeper ----------------------------------------------------------------------------

    def _keep_keeper(self, now: float) -> list[Action]:
        settings = self.settings
        outlive = settings is not None and settings.orphan_grace_s > 0 and not self._stopping
        wanted = outlive and settings is not None and any(site.programs for site in settings.sites)
        return self._keeper.keep(
            now, wanted=wanted, living=any(pool.programs.living for pool in self._pools.values())
        )

    # --- the books -----------------------------------------------------------------------------

    def _new_proc(self, site: SiteName) -> ProcId:
        """Give out the next process's name."""
        self._last_proc += 1
        proc = ProcId(self._last_proc)
        self._owners[proc] = site
        return proc

    def _quit_if_done(self) -> list[Action]:
        if not self._stopping or self._owners:
            return []
        self.done = True
        return [Quit()]


def _order(settings: Settings, pools: Iterable[SiteName]) -> list[SiteName]:
    """The sites of the configuration in its order, then those that are still ending."""
    pools = set(pools)
    named = [site.name for site in settings.sites if site.name in pools]
    return named + sorted(pools - set(named))
