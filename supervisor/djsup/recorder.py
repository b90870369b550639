"""The recorder: makes of what the observer sees each second the series that operators look at.

Knows what is measured and where it goes; how it is kept is ``series``'s affair. Nothing of a site that sleeps is
measured or kept: there, a series has a gap.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from djsup import series, series_left
from djsup.core.model import Pid, SiteName, Slot
from djsup.series_left import RingLeft
from djsup.shell.samples import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djsup.shell.samples import Measured, Meter
    from djsup_worker.scoreboard import Note, Row

MEMORY_EVERY_S = 30.0
"""How old a worker's memory in a series may be: the kernel takes half a millisecond and more to sum it up."""
MEMORY_EACH_LOOK = 2
"""How many workers of a site are measured in one second at most, so that they don't come all at once."""
SLOT_FORGOTTEN_S = series.SECONDS_KEPT_S
"""A slot without a worker is forgotten after so long."""


class Seen(NamedTuple):
    """One worker as the observer has seen it this second."""

    slot: Slot
    pid: Pid
    row: Row
    serves: bool
    adopted: bool = False
    """An earlier daemon has started it, and counted what it did before."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A request that failed or was slow."""

    at: float
    """When it ended, in seconds since the epoch."""
    method: str
    path: str
    status: int
    """0: its client was gone before there was an answer."""
    took_s: float
    slot: Slot
    pid: Pid


@dataclass(slots=True)
class _SlotSeries:
    """The series of one slot, whichever workers it has had."""

    ring: series.Ring
    pid: Pid
    requests: int
    at: float
    """When it was last seen, on the monotonic clock."""


NOTED_KEPT = 200
"""Requests of each site."""


class _SiteRecord:
    """A site's series and what is needed to go on with them."""

    def __init__(self) -> None:
        self.series = series.SiteSeries()
        self.before: tuple[float, Totals] | None = None
        self.slots: dict[Slot, _SlotSeries] = {}
        self.noted: deque[Noted] = deque(maxlen=NOTED_KEPT)
        self.notes_read: dict[Slot, tuple[Pid, int]] = {}
        """The last worker of each slot, and the number of its last note that was read."""

    def left(self) -> dict[str, Any]:
        """All of it but the rings: JSON."""
        return {
            "running": self.series.left(),
            "before": None if self.before is None else [self.before[0], asdict(self.before[1])],
            "slots": [[slot, each.pid, each.requests, each.at] for slot, each in self.slots.items()],
            "noted": [asdict(each) for each in self.noted],
            "notes_read": [[slot, *read] for slot, read in self.notes_read.items()],
        }

    @classmethod
    def again(cls, raw: dict[str, Any], rings: Mapping[str, Mapping[int, bytes]]) -> _SiteRecord:
        """What ``left`` gave, and the chunks of its rings.

        Raises:
            ValueError, KeyError, TypeError: it did not.
        """
        found = cls()
        found.series.recall(raw["running"])
        for name, ring in found.series.rings.items():
            ring.recall(rings.get(name, {}))
        if raw["before"] is not None:
            at, totals = raw["before"]
            counted: dict[str, Any] = {
                name: tuple(each) if isinstance(each, list) else each for name, each in totals.items()
            }
            if len(counted["histogram"]) == len(Totals().histogram):
                found.before = float(at), Totals(**counted)
        for slot, pid, requests, seen_at in raw["slots"]:
            each = _SlotSeries(series.worker_ring(), Pid(int(pid)), int(requests), float(seen_at))
            each.ring.recall(rings.get(str(slot), {}))
            found.slots[Slot(int(slot))] = each
        found.noted.extend(Noted(**each) for each in raw["noted"])
        found.notes_read = {
            Slot(int(slot)): (Pid(int(pid)), int(read)) for slot, pid, read in raw["notes_read"]
        }
        return found


class Recorder:
    """Keeps the series of all sites."""

    def __init__(self, meter: Meter, wall_clock: Callable[[], float] = time.time) -> None:
        self._meter = meter
        self._wall_clock = wall_clock
        self._sites: dict[SiteName, _SiteRecord] = {}
        self.keep: Callable[[SiteName, int, bytes], None] = lambda _site, _at, _minute: None
        """Called with each minute of a site that is over: when it began (s since the epoch), and ``pack_minute``'s."""

    def record(self, site: SiteName, now: float, workers: list[Seen], totals: Totals, waiting: int) -> None:
        """Add a second of a site that has workers. ``now`` is monotonic, ``waiting`` the length of its listen queues."""
        known = self._of(site)
        before, known.before = known.before, (now, totals)
        if before is None and not any(each.adopted for each in workers):
            before = (now - 1.0, Totals())  # all that it has done, it has done since the last look
        if before is None or before[0] >= now:
            return
        then, old = before
        elapsed_s = now - then
        measured = self._measure(workers)
        at = round(self._wall_clock()) - 1  # the second that has just ended
        self._record_workers(known, now, at, workers, measured)
        histogram = series.difference(old.histogram, totals.histogram)
        figures = (
            sum(histogram.values()) / elapsed_s,
            max(0, totals.classes[3] - old.classes[3]) / elapsed_s,
            max(0, totals.classes[4] - old.classes[4]) / elapsed_s,
            sum(len(each.row.running) for each in workers),
            sum(each.row.threads for each in workers if each.serves),
            sum(each.serves for each in workers),
            sum(each.row.connections for each in workers),
            waiting,
            sum(each.pss_bytes for each in measured),
            sum(each.private_bytes for each in measured),
            sum(each.cpu_percent for each in measured),
            sum(each.descriptors for each in measured),
            sum(each.os_threads for each in measured),
        )
        if over := known.series.add(at, figures, histogram):
            self.keep(site, *over)

    def note(self, site: SiteName, now: float, worker: Seen, notes: Callable[[int, int], list[Note]]) -> None:
        """Keep what a worker has noted since the last look; ``notes`` reads a slot's notes after a number."""
        known = self._of(site)
        pid, read = known.notes_read.get(worker.slot, (worker.pid, 0))
        if pid != worker.pid:
            read = 0
        if worker.row.noted == read:
            return
        found = notes(worker.slot, read)
        known.notes_read[worker.slot] = worker.pid, max([worker.row.noted, *(each.number for each in found)])
        wall = self._wall_clock()
        for each in found:
            ago_s = min(
                max(0.0, now - each.ended_ns / 1e9), MEMORY_EVERY_S
            )  # a site may write anything there
            took_s = each.took_ns / 1e9
            known.noted.append(
                Noted(wall - ago_s, each.method, each.path, each.status, took_s, worker.slot, worker.pid)
            )

    def noted(self, site: SiteName) -> list[Noted]:
        """The last requests of a site that failed or were slow, oldest first."""
        known = self._sites.get(site)
        return [] if known is None else list(known.noted)

    def _of(self, site: SiteName) -> _SiteRecord:
        known = self._sites.get(site)
        if known is None:
            known = self._sites[site] = _SiteRecord()
        return known

    def rest(self, site: SiteName, now: float) -> None:
        """The site has no workers now: what it does when it wakes is counted from here."""
        known = self._sites.get(site)
        if known is not None and known.before is not None:
            known.before = (now, known.before[1])

    def _measure(self, workers: list[Seen]) -> list[Measured]:
        """New ones' memory at once, else there is nothing to show; of the others a few each second, in turn."""
        ages = {each.pid: self._meter.memory_age_s(each.pid) for each in workers}
        due = [pid for pid, age_s in ages.items() if MEMORY_EVERY_S <= age_s < math.inf]
        due = sorted(due, key=lambda pid: -ages[pid])[:MEMORY_EACH_LOOK]
        return [self._meter.measure(each.pid, 0.0 if each.pid in due else math.inf) for each in workers]

    @staticmethod
    def _record_workers(
        known: _SiteRecord, now: float, at: int, workers: list[Seen], measured: list[Measured]
    ) -> None:
        for seen, process in zip(workers, measured, strict=True):
            row = seen.row
            slot = known.slots.get(seen.slot)
            if slot is None:
                slot = known.slots[seen.slot] = _SlotSeries(series.worker_ring(), seen.pid, row.requests, now)
                rate = math.nan
            else:
                counted_from = slot.requests if slot.pid == seen.pid else 0
                rate = max(0, row.requests - counted_from) / max(now - slot.at, 0.001)
                slot.pid, slot.requests, slot.at = seen.pid, row.requests, now
            slot.ring.put(
                at,
                (
                    rate,
                    len(row.running),
                    row.connections,
                    process.pss_bytes,
                    process.private_bytes,
                    process.cpu_percent,
                    process.descriptors,
                    process.os_threads,
                ),
            )
        for gone in [slot for slot, each in known.slots.items() if now - each.at > SLOT_FORGOTTEN_S]:
            del known.slots[gone]

    def forget(self, site: SiteName) -> None:
        """The site is gone."""
        self._sites.pop(site, None)

    def close(self) -> None:
        """Give the minutes that are not over to ``keep``, as far as they are: the daemon ends, or is replaced."""
        for site, known in self._sites.items():
            if running := known.series.minute_so_far():
                self.keep(site, *running)

    # --- another program of the daemon ---------------------------------------------------------

    def left(self) -> bytes:
        """All that the program needs that replaces the daemon's, so that no series has a gap."""
        sites: dict[str, Any] = {site: known.left() for site, known in self._sites.items()}
        records = list(self._sites.items())
        rings = [RingLeft(site, "seconds", known.series.rings["seconds"]) for site, known in records]
        rings += [
            RingLeft(site, str(slot), each.ring)
            for site, known in records
            for slot, each in known.slots.items()
        ]
        rings += [RingLeft(site, "tens", known.series.rings["tens"]) for site, known in records]
        return series_left.pack(sites, rings)

    def recall(self, content: bytes) -> None:
        """Go on with what ``left`` gave; what cannot be read is left out, and its series has a gap."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            sites, rings = series_left.unpack(content)
            for site, raw in sites.items():
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    self._sites[SiteName(site)] = _SiteRecord.again(
                        raw, {name: chunks for (of, name), chunks in rings.items() if of == site}
                    )

    def count_on(self, site: SiteName, now: float, totals: Totals) -> None:
        """What this site had done before this program came, it has not done since: where nothing better is known."""
        known = self._of(site)
        if known.before is None:
            known.before = (now, totals)

    def site(self, site: SiteName) -> series.SiteSeries | None:
        """What is kept of a site; None: nothing yet."""
        known = self._sites.get(site)
        return None if known is None else known.series

    def worker(self, site: SiteName, slot: int) -> tuple[series.Ring, Pid] | None:
        """What is kept of a worker's slot, and its last worker's pid."""
        known = self._sites.get(site)
        for number, each in known.slots.items() if known is not None else ():
            if number == slot:
                return each.ring, each.pid
        return None
