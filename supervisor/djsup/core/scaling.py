"""How many workers a site is to have: between the bounds of the settings, what the load asks for.

Knows the bounds, what was asked for by hand, and what was measured. Whether a site sleeps is decided in
``sleep.py``, which workers come and go in ``workers.py``.

A site's load is counted in workers: so many would be busy in every thread (or with a core each, for an
interpreter uses no more than one). The rules that bind here:

1. Quick up: SATURATED_SAMPLES samples in a row that keep every worker busy bring one worker more; where
   connections wait, as many more as these need, but no more than twice as many.
2. Slow down: when the load would have left fewer workers FULL for the whole of ``down_after``, those go
   that the greatest load in that time did not need.
3. So it does not flap: with those that stay, the greatest load that was seen fills no more than FULL of
   them, and more come only when all are busy. A load whose peaks return within ``down_after`` changes
   nothing after the first ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from djsup.core.model import SLOTS, WorkerCount

if TYPE_CHECKING:
    from djsup.core.events import LoadSampled

SLOTS_RESERVE = 28
"""Rows kept for workers beyond the promise: the surge, and those that take long to drain."""
WORKERS_MAX = SLOTS - SLOTS_RESERVE
"""The most workers that a site is promised."""
SATURATED_SAMPLES = 2
"""One sample in which all are busy is chance; that many in a row are load."""
FULL = 0.75
"""How busy those that stay may be at the greatest load, as a share."""
CORE_FULL = 0.9
"""A worker that uses so much of a core has no time left: the kernel and its rounding take the rest."""
LOAD_MAX = 4 * SLOTS
"""A greater load is counted as this: what stands in a scoreboard is no figure to trust."""


def clamp(workers: int, count: WorkerCount) -> int:
    """The nearest number of workers that a site can have; a fixed number is no bound for what is asked by hand."""
    if count.least == count.most:
        return max(1, min(workers, WORKERS_MAX))
    return max(1, count.least, min(workers, count.most, WORKERS_MAX))


def surge(configured: int) -> int:
    """How many workers beyond the promise may live at one time; at least one, or nothing could be replaced."""
    return max(1, min(configured, SLOTS_RESERVE))


@dataclass(slots=True)
class Scaling:
    """What the load of one site asks for. ``weigh`` is told each sample, in order."""

    wanted: int = 1
    why: str = ""
    """What brought it to this number; empty: nothing has."""
    _saturated: int = 0
    """Samples in a row in which every worker was busy."""
    _less_since: float | None = None
    """Since when fewer would have been enough."""
    _peak: float = 0.0
    """The greatest load since then, in workers."""

    def go_on_from(self, number: int) -> None:
        """Forget what was measured: the site sleeps, or has other bounds. None is as good as one."""
        self.wanted, self.why = max(1, number), ""
        self.look_away()

    def look_away(self) -> None:
        """What can be measured now says nothing, and no row of samples goes on over it."""
        self._saturated, self._less_since = 0, None

    def number(self, count: WorkerCount) -> int:
        """How many there are to be."""
        fixed = count.least == count.most
        return clamp(count.least if fixed else self.wanted, count)

    def weigh(
        self,
        sample: LoadSampled,
        count: WorkerCount,
        threads: int,
        serving: int,
        down_after_s: float,
        now: float,
    ) -> bool:
        """Take one sample in. Whether the number is another one now; ``why`` says why."""
        self.wanted = before = self.number(count)
        load = min(max((sample.busy_threads + sample.waiting) / threads, sample.cores / CORE_FULL), LOAD_MAX)
        self._grow(sample, load, count, threads, serving)
        if self.wanted == before:
            self._shrink(load, count, down_after_s, now)
        return self.wanted != before

    def _grow(self, sample: LoadSampled, load: float, count: WorkerCount, threads: int, serving: int) -> None:
        """Rule 1. While some are on their way, they have not helped yet: nothing is judged."""
        saturated = load >= self.wanted and serving >= self.wanted
        self._saturated = self._saturated + 1 if saturated else 0
        if self._saturated < SATURATED_SAMPLES or self.wanted >= count.most:
            return
        needed = min(ceil(load), 2 * self.wanted)
        self.wanted = clamp(max(self.wanted + 1, needed), count)
        self._saturated, self._less_since = 0, None
        capacity = serving * threads
        if sample.waiting:
            self.why = (
                f"{sample.busy_threads} of {capacity} threads busy, connections waiting: {sample.waiting}"
            )
        elif sample.busy_threads >= capacity:
            self.why = f"all {capacity} threads busy"
        else:
            self.why = f"its workers use {sample.cores:.1f} cores"

    def _shrink(self, load: float, count: WorkerCount, down_after_s: float, now: float) -> None:
        """Rule 2."""
        if clamp(ceil(load / FULL), count) >= self.wanted:
            self._less_since = None
            return
        if self._less_since is None:
            self._less_since, self._peak = now, load
        self._peak = max(self._peak, load)
        if now - self._less_since >= down_after_s:
            self.wanted = clamp(ceil(self._peak / FULL), count)
            self._less_since = None
            self.why = f"no more were needed for {down_after_s:g} s"
