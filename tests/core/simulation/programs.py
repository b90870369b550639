"""The programs of the simulated sites: how they behave, and what must be true of them.

They have a source of chance of their own, so that a seed's history of workers stays what it is when
something about programs is changed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from djsup.core.actions import KillProcess, StartProgram
from djsup.core.events import (
    Event,
    Exit,
    ProcessExited,
    ProcessStarted,
    ProgramSaid,
    RunAsked,
    SpawnFailed,
)
from djsup.core.model import Generation, Pid, ProcId, ProgramReload, ProgramSettings, Settings, SiteName
from djsup.core.snapshot import ReloadResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.simulation.picture import Picture
    from core.simulation.world import World
    from djsup.core.fleet import Fleet
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

    @property
    def key(self) -> tuple[SiteName, str, int]:
        return self.action.site.name, self.action.program.name, self.action.instance

    @property
    def runs(self) -> bool:
        return self.ready_at is not None and not self.told and not self.gone


class ProgramWorld:
    """Plays the programs' part of a history."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = random.Random(f"programs {seed}")
        self.world = world
        self.procs: dict[ProcId, Proc] = {}
        self._pid = 100_000
        self.used = self.random.random() < 0.7
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
        each = self.procs[action.proc] = Proc(action, self.world.now)
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
        if each.over:
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
        each.over = each.gone = True
        return ProcessExited(each.action.proc, how)

    def kill(self, proc: ProcId, signal: str) -> None:
        each = self.procs[proc]
        if signal == "SIGHUP" or each.over:
            return
        each.told.setdefault(signal, self.world.now)
        if each.started_at is not None and (signal == "SIGKILL" or not self.chance(0.2)):
            self._end(each, Exit(signal=signal), self.delay() / 10 if signal == "SIGKILL" else self.delay())

    def daemon_dies(self) -> None:
        """They end with it."""
        for each in self.procs.values():
            each.over = each.gone = True
        self.bury()

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
        self.hung_up: dict[ProcId, int] = {}
        """The generation for which a program was sent its last SIGHUP."""

    def before(self, event: Event) -> None:
        """Note who ends, and whether somebody wanted it."""
        for site in self._picture.sites:
            self.served[SiteName(site.name)] = site.generation or self.served[SiteName(site.name)]
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

    def daemon_replaced(self, fleet: Fleet) -> None:
        """Another daemon starts them all anew."""
        self.fleet = fleet
        self.deaths.clear()
        self.served.clear()
        self.hung_up.clear()

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
        for each in self.world.living():
            self.check(self.fleet.process(each.action.proc), "no program is forgotten")
            if each.told:
                left_s = now - min(each.told.values())
                self.check(left_s <= STOP_MAX_S, f"{each.key} leaves for ever")
            elif each.started_at is not None and each.ready_at is None:
                self.check(now - each.started_at <= 3.0 + SLACK_S, f"{each.key} starts for ever")
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
