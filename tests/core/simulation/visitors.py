"""The visitors of a simulated world: how much they want of each site, and what can be measured of it.

Their dice are their own, so that the histories of sites with a fixed number of workers stay as they were.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.core.events import ConnectionWaiting, LoadSampled
from djsup.core.model import ScalingPolicy, SiteName, WorkerCount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.simulation.world import World
    from djsup.core.events import Event
    from djsup.core.model import Address, SiteSettings

SAMPLE_S = 1.0
SAMPLE_IN_CALM_S = 2.5


@dataclass
class Crowd:
    """Who visits one site."""

    threads: int = 0
    """Requests that they keep running at a time."""
    noise: int = 0
    """How many more or fewer it may be at any moment."""
    answered: int = 0


class Visitors:
    """All visitors."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = random.Random(f"visitors {seed}")
        self._world = world
        self.crowds: dict[SiteName, Crowd] = {}
        self.watched: set[Address] = set()
        world.later(SAMPLE_S, self._look)

    # --- settings ------------------------------------------------------------------------------

    def count(self, fixed: int) -> WorkerCount:
        """How many workers a site is configured with: some fixed, some to follow their visitors."""
        if self._random.random() < 0.4:
            return WorkerCount(fixed, fixed)
        least = self._random.choice([0, 0, 1, 2])
        return WorkerCount(least, self._random.randint(max(1, least), 6))

    def policy(self) -> ScalingPolicy:
        """How it is to follow them."""
        return ScalingPolicy(
            down_after_s=self._random.choice([5.0, 12.0]),
            sleep_after_s=self._random.choice([3.0, 10.0]),
            hibernate_after_s=self._random.choice([0.0, 8.0, 30.0]),
            start_asleep=self._random.random() < 0.3,
        )

    # --- what they do --------------------------------------------------------------------------

    def crowd(self, site: SiteName) -> Crowd:
        return self.crowds.setdefault(site, Crowd())

    def change(self, sites: Iterable[SiteSettings], *, steady: bool = False, sure: bool = False) -> None:
        """Other numbers of visitors; some that were away connect. ``sure``: somebody visits every site."""
        for site in sites:
            least = 1 if sure else 0
            threads = self._random.choice([least, least, 1, 3, 4, 7, 12, 19])
            noise = 0 if steady else self._random.choice([0, 0, 1, 5])
            self.crowds[site.name] = Crowd(threads, noise, self.crowd(site.name).answered)
            for address in site.listen:
                self._knock(site.name, address)

    def watch(self, address: Address) -> None:
        """Somebody may wait already."""
        self.watched.add(address)
        for site in self._world.settings.sites:
            if address in site.listen:
                self._knock(site.name, address)

    def _knock(self, site: SiteName, address: Address) -> None:
        if self.crowd(site).threads and address in self.watched:
            self._world.later(self._random.choice([0.0, 0.001, 0.3]), lambda: self._heard(address))

    def _heard(self, address: Address) -> Event | None:
        if address not in self.watched:
            return None
        self.watched.discard(address)
        return ConnectionWaiting(address)

    # --- what is seen of them ------------------------------------------------------------------

    def _look(self) -> Event | None:
        """Every site at once, each event in the same moment."""
        world = self._world
        world.later(SAMPLE_IN_CALM_S if world.calm else SAMPLE_S, self._look)
        for site in world.settings.sites:
            world.later(0.0, lambda site=site: self._sample(site))  # type: ignore[misc]
        if not world.calm and self._random.random() < 0.15:
            self.change(world.settings.sites)
        return None

    def _sample(self, site: SiteSettings) -> Event | None:
        rows = [each for each in self._world.living(site.name, "worker") if each.ready_at is not None]
        if not rows or not site.workers.scales:
            return None
        crowd = self.crowd(site.name)
        wanted = (
            max(0, crowd.threads + self._random.randint(-crowd.noise, crowd.noise)) if crowd.threads else 0
        )
        capacity = sum(each.serves for each in rows) * site.threads
        busy = min(wanted, capacity)
        if self._random.random() < 0.3:  # some requests are long
            crowd.answered += busy
        return LoadSampled(site.name, busy, wanted - busy, 0.0, wanted, crowd.answered)
