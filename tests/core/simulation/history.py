"""One random history from its beginning to its end, judged at every step."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from core.simulation.invariants import Judge
from core.simulation.world import World
from djsup.core.estate import Estate
from djsup.core.events import Replaced, ScaleAsked, SettingsChanged, SitesAdopted, SiteStartAsked
from djsup.core.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.actions import Action
    from djsup.core.events import Event
    from djsup.core.model import SiteName

NAME = re.compile(r"(\d+)(s?)(d?)(u?)")
ESTATES = TypeAdapter(tuple[Estate, ...])
STEPS_MAX = 6000
"""More steps than a history can need: the fleet or the world runs in a circle."""
REST_S = 200.0
"""Everything that waits has an end before this: boots, drains, the longest backoff, kept templates."""


@dataclass(frozen=True)
class Name:
    """What a history is told by: its seed, and how it is played. Written 117, 117s, 117d, 117sd."""

    seed: int
    short: bool = False
    """A few seconds of trouble; most have their end in the middle of it."""
    daemon_dies: bool = False
    """The daemon is killed some times, and another adopts what is left."""
    upgrades: bool = False
    """The daemon replaces its own program some times, which goes on with everything."""

    @classmethod
    def read(cls, text: str) -> Name:
        """As str writes it.

        Raises:
            ValueError: it is none.
        """
        found = NAME.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no history: say 117, 117s (short), 117d (the daemon dies), 117u (it replaces its program)"
            )
        return cls(int(found[1]), bool(found[2]), bool(found[3]), bool(found[4]))

    def __str__(self) -> str:
        return f"{self.seed}{'s' if self.short else ''}{'d' if self.daemon_dies else ''}{'u' if self.upgrades else ''}"


class History:
    """Plays a history. ``tell`` hears every event and every action, for a person to read."""

    def __init__(self, name: Name, tell: Callable[[str], None] | None = None) -> None:
        self.name = name
        self.written: dict[SiteName, Estate] = {}
        self.fleet = Fleet()
        self.world = World(name.seed, self.fleet)
        self.judge = Judge(self.world, self.fleet)
        self.steps = 0
        self._tell = tell

    def play(self) -> None:
        """Play it to its end.

        Raises:
            BrokenError: an invariant does not hold.
        """
        world, random = self.world, self.world.random
        self.step(SettingsChanged(world.settings, "start"))
        until = world.now + random.choice([1.0, 4.0] if self.name.short else [20.0, 60.0])
        while world.now < until:
            self.run(world.now + random.choice([0.01, 0.3, 1.0, 3.0]))
            if self.name.daemon_dies and random.random() < 0.1:
                self.daemon_dies()
            if self.name.upgrades and random.random() < 0.2:
                self.upgrade()
            event = world.accident() if random.random() < 0.5 else world.order()
            if event is not None:
                self.step(event)
            event = world.programs.event()
            if event is not None:
                self.step(event)
            event = world.trials.event()
            if event is not None:
                self.step(event)
            event = world.stops.event()
            if event is not None:
                self.step(event)
        if random.random() < (0.97 if self.name.short else 0.3):  # in the middle of everything
            self.stop()
            return
        world.calm = True
        self.visit()
        self.rest()
        if self.name.short:
            self.stop()
            return
        if random.random() < 0.5:
            self.step(world.change_settings(world.settings, reload_all=True))
            self.rest()
            self.judge.is_as_configured()
        self.start_all()
        self.disturb()
        self.visit(sure=True)  # whoever sleeps wakes
        self.rest()
        self.stop()

    def visit(self, *, sure: bool = False) -> None:
        """From now on the visitors of each site stay as they are."""
        self.world.visitors.change(self.world.settings.sites, steady=True, sure=sure)
        self.judge.scales.steady()

    def start_all(self) -> None:
        """What somebody has stopped is started, and serves again."""
        stopped = list(self.judge.stops.since)
        for name in stopped:
            self.step(SiteStartAsked(name, "bob (cli)"))
        if stopped:
            self.rest()

    def disturb(self) -> None:
        """What is asked of every site wakes none that sleeps; one that sleeps can listen elsewhere."""
        sleepers = [site for site in self.world.settings.sites if self.judge.sleeps(site.name)]
        for site in sleepers:
            self.step(ScaleAsked(site.name, 1, "SIGTTIN", relative=True))
            self.judge.check(self.judge.sleeps(site.name), "one worker more for all wakes nobody")
        if sleepers:
            self.step(self.world.move(sleepers[0]))
            self.rest()

    def daemon_dies(self) -> None:
        """The daemon is killed; the next one adopts what is left, and reads the settings, new ones perhaps."""
        world, random = self.world, self.world.random
        if self._tell is not None:
            self._tell(f"{world.now:.3f} the daemon dies")
        world.daemon_dies(random.choice([0.01, 0.3, 3.0]))
        world.bury()
        self.fleet = Fleet()
        adopted = world.adopt(list(self.written.values()), self.fleet)
        world.bury()
        self.written.clear()
        self.judge.daemon_replaced(self.fleet, adopted)
        served = self.judge.serving()
        self.step(SitesAdopted(adopted))
        if random.random() < 0.3:
            self.step(replace(world.change_settings(world.changed()), by="start"))
        else:
            self.step(SettingsChanged(world.settings, "start"))
        self.judge.keeps_serving(served)

    def upgrade(self) -> None:
        """The daemon's program is replaced by one that knows what this one hands over, as text, and nothing else."""
        world = self.world
        if not world.hand_over():
            return
        if self._tell is not None:
            self._tell(f"{world.now:.3f} the daemon replaces its program")
        world.bury()
        before = {each.name: each for each in self.fleet.snapshot(world.now)}
        sites, last_proc, dashboard, keeper = self.fleet.bequest()
        assert self.fleet.settings is not None
        replaced = Replaced(self.fleet.settings, last_proc, dashboard, world.random.random() < 0.2, keeper)
        text = ESTATES.dump_json(sites)
        self.fleet = world.fleet = self.judge.fleet = self.judge.programs.fleet = Fleet()
        self.judge.picture.take(world.now, self.fleet)
        self.step(SitesAdopted(ESTATES.validate_json(text), replaced))
        self.judge.goes_on(before)

    def stop(self) -> None:
        """Ask for the end, some two times, and see it come."""
        self.step(self.world.stop())
        if self.world.random.random() < 0.2:
            self.step(self.world.stop())
        self.run(self.world.now + REST_S)
        self.judge.has_ended()

    def rest(self) -> None:
        """Let everything come to rest, and see how it rests; a worker that grows old may be just replaced."""
        self.run(self.world.now + REST_S)
        until = self.world.now + REST_S
        while self.judge.replaces() and (event := self.world.next_event(until)) is not None:
            self.step(event)
        self.judge.at_rest()

    def run(self, until: float) -> None:
        """Let happen what happens before a time, unless the end of all comes first."""
        while not self.fleet.done and (event := self.world.next_event(until)) is not None:
            self.step(event)

    def step(self, event: Event) -> list[Action]:
        """One event in, its actions out, all of it judged."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise AssertionError("the history does not come to an end")
        if self._tell is not None:
            self._tell(f"{self.world.now:.3f} >> {event}")
        world = self.world
        self.judge.before(event)
        actions = self.fleet.handle(event, world.now)
        for action in actions:
            if self._tell is not None:
                self._tell(f"{'':10} << {action}")
            world.perform(action)
        for name, estate in self.fleet.take_estates().items():
            self.written.pop(name, None)
            if estate is not None:
                self.written[name] = estate
        self.judge.after(actions)
        world.bury()
        return actions
