"""The programs of the simulated sites: how they behave, and what must be true of them.

They have a source of chance of their own, so that a seed's history of workers stays what it is when
something about programs is changed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from djsup.core.actions import KillProcess, StartProgram
from djsup.core.events import (
    Event,
    Exit,
    ProcessExited,
    ProcessStarted,
    ProgramSaid,
    RunAsked,
    SitesAdopted,
    SpawnFailed,
)
from djsup.core.model import Generation, Pid, ProcId, ProgramReload, ProgramSettings, Settings, SiteName
from djsup.core.program import ALIVE, State
from djsup.core.snapshot import ReloadResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.simulation.picture import Picture
    from core.simulation.world import World
    from djsup.core.estate import Estate
    from djsup.core.fleet import Fleet
    from djsup.core.memory import ProcessLeft
    from djsup.core.snapshot import SiteSnapshot

STABLE_S = 4.0
SLACK_S = 1e-6
STOP_MAX_S = 8.0
NAMES = ["celery", "beat", "clearsessions"]


@dataclass(eq=False)
class Proc:
    """The truth of one program's process."""

    action: StartProgram
    asked_at: float
    started_at: float | None = None
    ready_at: float | None = None
    heard_at: float = 0.0
    """When it last said that it is ready or alive."""
    told: dict[str, float] = field(default_factory=dict)
    """Signals that it got, but SIGHUP, and when."""
    over: bool = False
    """The world has ended it; the fleet may not know yet."""
    gone: bool = False
    tied: bool = False
    """It ends with its daemon: there was no keeper when it was started."""
    awaited_since: float | None = None
    """Since when the daemon of now waits for it to be ready, where that one has adopted it."""
    adopted: bool = False
    """The daemon that comes has found it."""
    said_ready: bool = False
    """It said so while no daemon was there."""

    @property
    def key(self) -> tuple[SiteName, str, int]:
        return self.action.site.name, self.action.program.name, self.action.instance

    @property
    def runs(self) -> bool:
        return self.ready_at is not None and not self.told and not self.gone


@dataclass(eq=False)
class KeeperProc:
    """The truth of a keeper's process."""

    proc: ProcId
    over: bool = False


class ProgramWorld:
    """Plays the programs' part of a history."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = random.Random(f"programs {seed}")
        self.world = world
        self.procs: dict[ProcId, Proc] = {}
        self._pid = 100_000
        self.used = self.random.random() < 0.7
        self.keeper_random = random.Random(f"keeper {seed}")
        """For whatever has to do with the daemon's death, so that the history before it stays what it is."""
        self.grace_s = self.keeper_random.choice([0.0, 2.0, 60.0, 60.0])
        self.keepers: dict[ProcId, KeeperProc] = {}
        self._orphaned = False
        """No daemon is there."""
        self.reload = {name: self.random.choice(list(ProgramReload)) for name in NAMES}
        """The same through a history, so that the judge knows which program follows which generation."""

    def chance(self, probability: float) -> bool:
        return not self.world.calm and self.random.random() < probability

    def delay(self) -> float:
        return self.random.choice([0.0, 0.01, self.random.uniform(0, 1)])

    def some(self) -> tuple[ProgramSettings, ...]:
        """The programs of a site, for its settings."""
        if not self.used:
            return ()
        return tuple(self._program(name) for name in NAMES if self.random.random() < 0.6)

    def _program(self, name: str) -> ProgramSettings:
        program = ProgramSettings(
            name,
            "x",
            stop_timeout_s=self.random.choice([1.0, 5.0]),
            env=(("VERSION", str(self.random.randint(0, 1))),),
        )
        if name == "clearsessions":
            return replace(program, schedule="0 3 * * *", timeout_s=self.random.choice([0.0, 3.0]))
        return replace(
            program,
            instances=self.random.choice([0, 1, 1, 3]),
            reload=self.reload[name],
            notify=self.random.random() < 0.4,
            start_timeout_s=3.0,
            watchdog_s=self.random.choice([0.0, 0.0, 2.0]),
        )

    def event(self) -> Event | None:
        """An accident, or something that is asked for."""
        if not self.used:
            return None
        living = [each for each in self.procs.values() if each.started_at is not None and not each.gone]
        match self.random.choice(["kill", "run", "run", "change", "nothing", "nothing"]):
            case "kill" if living:
                return self._exited(self.random.choice(living), Exit(signal="SIGKILL"))
            case "run" if self.world.settings.sites:
                site = self.random.choice(self.world.settings.sites)
                return RunAsked(site.name, "clearsessions", "schedule")
            case "change":
                sites = tuple(
                    replace(site, programs=self.some()) if self.random.random() < 0.5 else site
                    for site in self.world.settings.sites
                )
                return self.world.change_settings(
                    replace(self.world.settings, sites=sites), reload_all=self.random.random() < 0.5
                )
            case _:
                return None

    # --- actions -------------------------------------------------------------------------------

    def start(self, action: StartProgram) -> None:
        each = self.procs[action.proc] = Proc(
            action, self.world.now, tied=self.keeper is None or not self.grace_s
        )
        if self.chance(0.1):
            self.world.later(self.delay(), lambda: self._failed(each))
        else:
            self.world.later(self.delay() / 10, lambda: self._started(each))

    def _failed(self, each: Proc) -> Event | None:
        if each.over:
            return None  # its daemon died
        each.over = each.gone = True
        return SpawnFailed(each.action.proc, "there is no program 'x'")

    def _started(self, each: Proc) -> Event | None:
        if each.over or each.started_at is not None:
            return None  # its daemon died
        program = each.action.program
        each.started_at = self.world.now
        self._pid += 1
        if each.told:  # the signal waited for the pid
            self._end(each, Exit(signal="SIGTERM"), self.delay())
        elif program.schedule is not None:
            each.ready_at = self.world.now
            self._end(each, Exit(self.random.choice([0, 0, 1])), self.random.uniform(0, 10))
        elif not program.notify:
            self._is_ready(each)
        elif not self.chance(0.3):
            self.world.later(self.random.uniform(0, 2.9), lambda: self._says_ready(each))
        if self.chance(0.4):
            self._end(each, Exit(1), self.random.choice([0.0, self.random.uniform(0, 12)]))
        return ProcessStarted(each.action.proc, Pid(self._pid))

    def _is_ready(self, each: Proc) -> None:
        each.ready_at = each.heard_at = self.world.now
        if each.action.program.watchdog_s:
            self.world.later(1.0, lambda: self._says_alive(each))

    def _says_ready(self, each: Proc) -> Event | None:
        if each.over:
            return None
        if each.ready_at is None and not each.told:
            self._is_ready(each)
        each.said_ready = self._orphaned
        return ProgramSaid(each.action.proc, ready=True, status="cooking")

    def _says_alive(self, each: Proc) -> Event | None:
        if each.over or self.chance(0.05):
            return None  # silent from here on
        each.heard_at = self.world.now
        self.world.later(self.random.uniform(0.5, 1.9), lambda: self._says_alive(each))
        return ProgramSaid(each.action.proc, alive=True)

    def _end(self, each: Proc, how: Exit, delay_s: float) -> None:
        self.world.later(delay_s, lambda: self._exited(each, how))

    def _exited(self, each: Proc, how: Exit) -> Event | None:
        if each.over:
            return None
        each.over = True
        if self._orphaned:
            return None  # the next daemon hears of it, if its keeper can tell
        each.gone = True
        return ProcessExited(each.action.proc, how)

    def kill(self, proc: ProcId, signal: str) -> None:
        each = self.procs[proc]
        if signal == "SIGHUP" or each.gone:
            return
        each.told.setdefault(signal, self.world.now)
        if each.over:
            return
        if each.started_at is not None and (signal == "SIGKILL" or not self.chance(0.2)):
            self._end(each, Exit(signal=signal), self.delay() / 10 if signal == "SIGKILL" else self.delay())

    # --- the keeper, and the daemon's death ----------------------------------------------------

    @property
    def keeper(self) -> KeeperProc | None:
        """The one that is there."""
        return next((each for each in self.keepers.values() if not each.over), None)

    def start_keeper(self, proc: ProcId) -> None:
        chance = 0.0 if self.world.calm else self.keeper_random.random()
        each = self.keepers[proc] = KeeperProc(proc, over=chance > 0.9)
        if each.over:
            self.world.later(0.0, lambda: self._keeper_gone(each, SpawnFailed(proc, "no descriptors")))
            return
        self.world.later(
            0.0, lambda: None if each.over else ProcessStarted(proc, Pid(99_000 + len(self.keepers)))
        )
        if chance > 0.6:
            self._end_keeper(each, "SIGSEGV", self.keeper_random.uniform(0, 20))

    def kill_keeper(self, proc: ProcId, signal: str) -> None:
        self._end_keeper(self.keepers[proc], signal, 0.01)

    def _end_keeper(self, each: KeeperProc, signal: str, delay_s: float) -> None:
        self.world.later(delay_s, lambda: self._keeper_ends(each, signal))

    def _keeper_ends(self, each: KeeperProc, signal: str) -> Event | None:
        if each.over:
            return None
        each.over = True
        return self._keeper_gone(each, ProcessExited(each.proc, Exit(signal=signal)))

    def _keeper_gone(self, each: KeeperProc, event: Event) -> Event | None:
        if self.keepers.pop(each.proc, None) is None:
            return None  # its daemon died
        return event

    def daemon_dies(self) -> None:
        """Those that are tied end with it; the others go on, and a keeper reads what they say."""
        self._orphaned = True
        for each in self.procs.values():
            unborn = each.started_at is None and (self.keeper is None or self.keeper_random.random() < 0.5)
            if each.tied or unborn:
                each.over = each.gone = True
            elif each.started_at is None:
                self._started(each)
        self.bury()
        if self.keeper is not None:
            self.world.later(self.grace_s, self._grace_is_over)

    def _grace_is_over(self) -> None:
        """Nobody has come: the keeper ends them, if it lives yet."""
        if not self._orphaned or self.keeper is None:
            return
        for each in self.procs.values():
            if not each.over:
                each.told.setdefault("SIGTERM", self.world.now)
                if self.keeper_random.random() < 0.6:
                    self._end(each, Exit(signal="SIGTERM"), self.keeper_random.uniform(0, 1))
                timeout_s = each.action.program.stop_timeout_s
                self.world.later(timeout_s, partial(self._killed_by_keeper, each))

    def _killed_by_keeper(self, each: Proc) -> Event | None:
        return self._exited(each, Exit(signal="SIGKILL")) if self._orphaned and self.keeper else None

    def adopt(self, left: Estate) -> Estate:
        """What of a site's programs is left, as the shell finds it."""
        if left.programs is None:
            return left
        found = {each.proc: self._adopted(each) for each in left.helpers}
        return replace(
            left, programs=left.programs.with_processes(lambda process: found.get(process.proc, process))
        )

    def _adopted(self, left: ProcessLeft) -> ProcessLeft:
        assert left.proc is not None
        each = self.procs.get(left.proc)
        kept = self.keeper is not None
        if each is not None and each.over and not kept:
            each.gone = True
        if each is None or each.gone:
            return replace(left, pid=None)
        each.adopted = True
        each.awaited_since = each.heard_at = self.world.now
        alive = left.state in ALIVE
        if kept and each.over:
            self.world.later(0.0, lambda: self._heard_late(each))
        elif kept and each.said_ready:
            self.world.later(0.0, lambda: None if each.gone else ProgramSaid(each.action.proc, ready=True))
        if not kept and alive:
            self.kill(left.proc, "SIGTERM")
        pid = left.pid or Pid(self._pid)
        if alive and (each.told or not kept):
            return replace(left, pid=pid, state=State.ENDING, end_asked=True)
        return replace(left, pid=pid)

    def _heard_late(self, each: Proc) -> Event | None:
        if each.gone:
            return None
        each.gone = True
        return ProcessExited(each.action.proc, Exit())

    def next_daemon(self) -> list[Proc]:
        """Another daemon is there. Gives what it knows nothing of; those of before have not been taken."""
        self._orphaned = False
        self.keepers.clear()
        unknown = [each for each in self.procs.values() if not each.gone and not each.adopted]
        for each in self.procs.values():
            each.adopted = False
        return unknown

    def bury(self) -> None:
        for proc in [proc for proc, each in self.procs.items() if each.gone]:
            del self.procs[proc]

    def living(self, site: SiteName | None = None) -> list[Proc]:
        return [
            each
            for each in self.procs.values()
            if not each.gone and (site is None or each.action.site.name == site)
        ]


class ProgramJudge:
    """What must be true of the programs; ``check`` raises when it is not."""

    def __init__(
        self, world: ProgramWorld, fleet: Fleet, picture: Picture, check: Callable[[object, str], None]
    ) -> None:
        self.world = world
        self.fleet = fleet
        self._picture = picture
        self.check = check
        self.deaths: dict[tuple[SiteName, str, int], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        """Early deaths in a row and the time of the last."""
        self.served: dict[SiteName, int] = defaultdict(int)
        """The generation that served last."""
        self._keeper_anew = False
        """The keeper is one of another version, and is replaced."""
        self.hung_up: dict[ProcId, int] = {}
        """The generation for which a program was sent its last SIGHUP."""

    def before(self, event: Event) -> None:
        """Note who ends, and whether somebody wanted it."""
        replaced = event.replaced if isinstance(event, SitesAdopted) else None
        self._keeper_anew = replaced is not None and replaced.dashboard_anew
        if not isinstance(event, (ProcessExited, SpawnFailed)) or event.proc not in self.world.procs:
            return
        each, now = self.world.procs[event.proc], self.world.world.now
        steady = each.ready_at is not None and now - each.ready_at >= STABLE_S
        count = self.deaths[each.key][0]
        # One that was told to end may have been at fault before: then the fleet waits longer than is reckoned here.
        self.deaths[each.key] = (0 if each.told or steady else count + 1, now)

    def forget(self, site: SiteName) -> None:
        """It ends, or its table has changed: what failed before is no more held against its programs."""
        self.deaths = defaultdict(
            lambda: (0, 0.0), {key: row for key, row in self.deaths.items() if key[0] != site}
        )

    def daemon_replaced(self, fleet: Fleet, adopted: tuple[Estate, ...]) -> None:
        """Another daemon goes on with them, and knows of their failures; the others it starts anew."""
        self.fleet = fleet
        unknown = self.world.next_daemon()
        self.check(not unknown, f"no program is forgotten with its daemon: {[each.key for each in unknown]}")
        known = {each.settings.name for each in adopted if each.programs is not None}
        self.deaths = defaultdict(
            lambda: (0, 0.0), {key: row for key, row in self.deaths.items() if key[0] in known}
        )
        self.served = defaultdict(int, {name: row for name, row in self.served.items() if name in known})
        living = {each.action.proc for each in self.world.living()}  # where nothing is left, names begin anew
        self.hung_up = {proc: row for proc, row in self.hung_up.items() if proc in living}

    def started(self, action: StartProgram, *, ends: bool) -> None:
        name, program, now = action.site.name, action.program, self.world.world.now
        self.check(not ends, "no program is started for what ends")
        shown = self._picture.site(name)
        # While a site sleeps its programs go on with what served last.
        serves = shown is not None and action.generation == (shown.generation or self.served[name]) > 0
        self.check(serves, "a program is started when its site serves, for the generation that does")
        twins = [
            each for each in self.world.living(name) if each.key == (name, program.name, action.instance)
        ]
        self.check(len(twins) == 1, f"{program.name}/{action.instance} runs once")
        if program.schedule is not None:
            return
        self.check(action.instance < program.instances, "no more instances live than are asked for")
        count, last_at = self.deaths[name, program.name, action.instance]
        least_s = min(30.0, 0.1 * 2.0 ** min(count, 20)) if count else 0.0
        self.check(
            now - last_at >= least_s - SLACK_S, "a program is not started faster than the backoff allows"
        )

    def keeper_told(self) -> None:
        """The keeper gets a signal."""
        needed = [each.key for each in self.world.living() if not each.tied]
        self.check(self._keeper_anew or not needed, f"the keeper ends after the programs: {needed}")

    def told(self, action: KillProcess, *, ends: bool) -> None:
        """A signal to a program has a reason."""
        each, now = self.world.procs[action.proc], self.world.world.now
        program, name = each.action.program, each.action.site.name
        shown, site = self._picture.site(name), self.world.world.settings.site(name)
        belongs_to = self.hung_up.get(action.proc, each.action.generation)
        moved = shown is not None and shown.generation != belongs_to
        match action.signal:
            case _ if ends:
                pass
            case "SIGKILL":
                told = [at for signal, at in each.told.items() if signal != "SIGKILL"]
                late = bool(told) and now - min(told) >= 1.0 - SLACK_S
                self.check(late, "a program is killed when it was told to end and had its time")
            case "SIGHUP":
                self.check(moved and program.schedule is None, "SIGHUP follows a reload")
                assert shown is not None
                self.hung_up[action.proc] = shown.generation
            case "SIGABRT":
                silent = now - each.heard_at >= program.watchdog_s - SLACK_S
                self.check(program.watchdog_s and silent, "SIGABRT is for silent programs")
            case _:
                changed = site is None or program not in site.programs
                mute = each.ready_at is None and now - each.asked_at >= program.start_timeout_s - SLACK_S
                lasts = now - each.asked_at + SLACK_S
                slow = any(0 < timeout_s <= lasts for timeout_s in self._timeouts(program, shown, name))
                follows = moved and program.reload is ProgramReload.RESTART and program.schedule is None
                self.check(changed or mute or slow or follows, "a program is told to end for a reason")

    def after(self) -> None:
        """Nothing waits for ever, and the books agree."""
        now = self.world.world.now
        for site in self._picture.sites:  # now, and not before the next event: the daemon may die meanwhile
            self.served[SiteName(site.name)] = site.generation or self.served[SiteName(site.name)]
        for each in self.world.living():
            self.check(self.fleet.process(each.action.proc), "no program is forgotten")
            if each.told:
                left_s = now - min(each.told.values())
                self.check(left_s <= STOP_MAX_S, f"{each.key} leaves for ever")
            elif each.started_at is not None and each.ready_at is None:
                self.check(
                    now - (each.awaited_since or each.started_at) <= 3.0 + SLACK_S,
                    f"{each.key} starts for ever",
                )
            elif each.ready_at is not None and each.action.program.watchdog_s:
                self.check(now - each.heard_at <= 2.0 + SLACK_S, f"{each.key} is silent for ever")

    def _timeouts(
        self, program: ProgramSettings, shown: SiteSnapshot | None, name: SiteName
    ) -> Iterator[float]:
        """The time limits that a scheduled program may have: its own, and what a later generation came with."""
        yield program.timeout_s
        loaded = self.world.world.generations.get(
            (name, Generation(0 if shown is None else shown.generation))
        )
        yield from (
            each.timeout_s for each in (loaded.programs if loaded else ()) if each.name == program.name
        )

    def at_rest(self, settings: Settings) -> None:
        """Calm for long: what runs is what the settings name, but after a reload that was rolled back."""
        for site in settings.sites:
            shown = self._picture.site(site.name)
            if shown is None or not shown.generation:
                continue
            living = self.world.living(site.name)
            self.check(all(each.runs for each in living), f"{site.name} rests with programs that run")
            kept = self.world.keeper is not None or not (settings.orphan_grace_s and site.programs)
            self.check(kept, f"{site.name} rests with programs and no keeper")
            states = {each.state for each in shown.programs}
            self.check(states <= {"running", "waiting"}, f"{site.name} rests with programs {states}")
            report = shown.last_reload
            if report is None or report.result is ReloadResult.DONE:
                self._is_as_configured(site.name, settings)

    def _is_as_configured(self, name: SiteName, settings: Settings) -> None:
        site = settings.site(name)
        assert site is not None
        wanted = {
            (name, each.name, number): each.env
            for each in site.programs
            if each.schedule is None
            for number in range(each.instances)
        }
        found = {each.key: each.action.program.env for each in self.world.living(name)}
        self.check(found == wanted, f"{name} rests with the programs that are configured: {found}, {wanted}")
        shown = self._picture.site(name)
        assert shown is not None
        jobs = {each.name for each in shown.programs if each.state == "waiting"}
        scheduled = {each.name for each in site.programs if each.schedule is not None}
        self.check(jobs == scheduled, f"{name} rests with what is scheduled")
        for each in self.world.living(name):
            if each.action.program.reload is ProgramReload.RESTART:
                same = each.action.generation == shown.generation
                self.check(same, f"{each.key} belongs to the generation that serves")
