"""Operators who stop one site and start it again, in a third of the histories, and what must be true of it.

They have dice of their own, so that the other histories stay as they were.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from djsup.core.actions import StartTemplate
from djsup.core.events import RestartAsked, SettingsChanged, SiteStartAsked, SiteStopAsked
from djsup.core.snapshot import SiteState
from djsup.core.worker import KILL_SLACK_S

if TYPE_CHECKING:
    from core.simulation.invariants import Judge
    from core.simulation.world import World
    from djsup.core.actions import Action
    from djsup.core.events import Event
    from djsup.core.model import SiteName

ENDS_WITHIN_S = 8.0 + KILL_SLACK_S + 8.0
"""The longest drain of this world, and the longest that one takes which is killed afterwards."""


class Stops:
    """Who stops and starts sites."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = random.Random(f"stops {seed}")
        self._world = world
        self._busy = self._random.random() < 1 / 3

    def event(self) -> Event | None:
        sites = self._world.settings.sites
        if not self._busy or not sites or self._random.random() > 0.2:
            return None
        name = self._random.choice(sites).name
        if self._random.random() < 0.5:
            return SiteStopAsked(name, "anna (cli)", at_once=self._random.random() < 0.3)
        return SiteStartAsked(name, "bob (cli)")


class StopJudge:
    """Judges them."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.since: dict[SiteName, float] = {}
        """Sites that are stopped, and since when."""

    def __contains__(self, name: SiteName) -> bool:
        return name in self.since

    def before(self, event: Event) -> None:
        """Note what goes in, before anything else is made of it."""
        now, settings = self._judge.world.now, self._judge.settings
        match event:
            case SiteStopAsked(site=name) if settings is not None and settings.site(name) is not None:
                if self._judge.stopping_at is None:
                    self.since.setdefault(name, now)
            case SiteStartAsked(site=name) | RestartAsked(site=name):
                self.since.pop(name, None)
            case SettingsChanged(settings=new):
                # One that is removed, and comes again, is another one.
                self.since = {name: at for name, at in self.since.items() if new.site(name) is not None}
            case _:
                pass

    def came(self, action: Action) -> None:
        """Judge one action."""
        if isinstance(action, StartTemplate):
            self._judge.check(action.site.name not in self, "nothing is loaded for a site that is stopped")

    def after(self) -> None:
        """A stopped site has no process after its drain, and shows how it is."""
        judge = self._judge
        if judge.stopping_at is not None:
            return
        for name, at in self.since.items():
            lives = bool(judge.world.living(name) or judge.world.programs.living(name))
            judge.check(
                not lives or judge.world.now - at <= ENDS_WITHIN_S, f"{name} is stopped, and lives for ever"
            )
            shown = judge.picture.site(name)
            assert shown is not None
            wanted = SiteState.STOPPING if lives else SiteState.STOPPED
            judge.check(
                shown.state is wanted, f"{name} is {wanted.value}, and is shown as {shown.state.value}"
            )
        for shown in judge.picture.sites:
            known = any(name == shown.name for name in self.since)
            judge.check(
                (shown.stopped_by is not None) == known, f"{shown.name}: shows who has stopped it, if anybody"
            )
