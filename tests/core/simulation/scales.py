"""What must be true of scaling and sleeping, judged from outside at every step of a simulated history."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from djsup.core.events import ConnectionWaiting, LoadSampled, SettingsChanged
from djsup.core.snapshot import SiteState

if TYPE_CHECKING:
    from core.simulation.invariants import Judge
    from djsup.core.events import Event
    from djsup.core.model import SiteName, SiteSettings
    from djsup.core.snapshot import SiteSnapshot

WAKES_WITHIN_S = 1.0
"""The kernel tells at once of a connection; this world after at most 0.3 s."""


@dataclass
class Record:
    """What was seen of one site since its number of workers last changed."""

    samples: list[tuple[float, float, bool]] = field(default_factory=list)
    """When, the load in workers, and whether all of them were busy."""
    unused_since: float | None = None
    waits_since: float | None = None
    """Since when it sleeps though somebody visits it."""
    turns: list[int] = field(default_factory=list)
    """Up and down, since its visitors last changed for good."""


class Scales:
    """Weighs every change of a number of workers."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._records: dict[SiteName, Record] = defaultdict(Record)
        self._before: dict[str, SiteSnapshot] = {}
        self._event: Event | None = None

    def shown(self, name: SiteName) -> SiteSnapshot | None:
        return self._judge.picture.site(name)

    def steady(self) -> None:
        """From now on the visitors of each site stay as they are."""
        for record in self._records.values():
            record.turns.clear()

    def daemon_replaced(self) -> None:
        """Another daemon has measured nothing yet."""
        self._records.clear()
        self._before.clear()

    def before(self, event: Event) -> None:
        self._event = event
        self._before = {each.name: each for each in self._judge.picture.sites}
        if not isinstance(event, LoadSampled):
            return
        site, record = self._site(event.site), self._records[event.site]
        asked = self._before[event.site].workers_asked
        load = (event.busy_threads + event.waiting) / site.threads
        record.samples.append((self._judge.world.now, load, load >= asked))

    def after(self) -> None:
        judge = self._judge
        for shown in judge.picture.sites:
            settings = None if judge.settings is None else judge.settings.site(shown.name)  # type: ignore[arg-type]
            if settings is None or not settings.workers.scales:
                continue
            self._within_bounds(shown, settings)
            self._does_not_oversleep(shown, settings)
            before = self._before.get(shown.name)
            if before is not None:
                self._change_has_its_reason(before, shown, settings)

    def _site(self, name: SiteName) -> SiteSettings:
        found = self._judge.world.settings.site(name)
        assert found is not None
        return found

    def _within_bounds(self, shown: SiteSnapshot, settings: SiteSettings) -> None:
        least, most = max(1, settings.workers.least), settings.workers.most
        sleeps = shown.state is SiteState.SLEEPING
        self._judge.check(
            (shown.workers_asked == 0)
            if sleeps or shown.stopped_by is not None
            else least <= shown.workers_asked <= most,
            f"{shown.name}: {shown.workers_asked} workers are asked for, {least} to {most} are configured",
        )
        self._judge.check(not sleeps or settings.workers.least == 0, f"{shown.name} sleeps though it may not")

    def _does_not_oversleep(self, shown: SiteSnapshot, settings: SiteSettings) -> None:
        now, record = self._judge.world.now, self._records[settings.name]
        visited = self._judge.world.visitors.crowd(settings.name).threads > 0
        if shown.state is not SiteState.SLEEPING or not visited:
            record.waits_since = None
        elif record.waits_since is None:
            record.waits_since = now
        waits_s = 0.0 if record.waits_since is None else now - record.waits_since
        self._judge.check(
            waits_s <= WAKES_WITHIN_S, f"{shown.name} sleeps for {waits_s:.1f} s while somebody waits"
        )

    def _change_has_its_reason(
        self, before: SiteSnapshot, shown: SiteSnapshot, settings: SiteSettings
    ) -> None:
        name, now, event, judge = settings.name, self._judge.world.now, self._event, self._judge
        record = self._records[name]
        self._falls_asleep_in_quiet(before, shown, settings)
        if before.workers_asked == shown.workers_asked:
            return
        up = shown.workers_asked > before.workers_asked
        samples, record.samples = record.samples, []
        stops = (before.stopped_by is None) is not (shown.stopped_by is None)
        if stops or SiteState.SLEEPING in {before.state, shown.state} or isinstance(event, SettingsChanged):
            record.turns.clear()
            return
        if name in judge.by_hand or not isinstance(event, LoadSampled):
            judge.check(name in judge.by_hand, f"{name} is scaled by {event}")
            return
        record.turns.append(1 if up else -1)
        steady = not (judge.world.calm and len(set(record.turns)) > 1)
        judge.check(steady, f"{name} flaps under a constant load: {record.turns}")
        if up:
            full = len(samples) >= 2 and all(saturated for _, _, saturated in samples[-2:])
            judge.check(full, f"{name} grows though its workers are not all busy")
            judge.check(shown.workers_asked <= 2 * before.workers_asked, f"{name} grows too fast")
            return
        first = settings.scaling.down_after_s
        less = [load for at, load, _ in samples if at >= now - first]
        judge.check(
            samples[0][0] <= now - first and all(ceil(load / 0.75) < before.workers_asked for load in less),
            f"{name} shrinks though what goes was needed within {first:g} s",
        )
        judge.check(
            max(load / 0.75 for load in less) <= shown.workers_asked, f"{name} shrinks below what was needed"
        )

    def _falls_asleep_in_quiet(
        self, before: SiteSnapshot, shown: SiteSnapshot, settings: SiteSettings
    ) -> None:
        record, now = self._records[settings.name], self._judge.world.now
        event = self._event
        if shown.state is SiteState.SLEEPING:
            if before.state is not SiteState.SLEEPING and before.generation:
                quiet = record.unused_since is not None
                quiet = quiet and now - (record.unused_since or 0) >= settings.scaling.sleep_after_s - 1e-6
                self._judge.check(quiet, f"{settings.name} falls asleep while it is used")
            record.unused_since = None
        elif (
            isinstance(event, LoadSampled)
            and event.site == settings.name
            and (event.busy_threads or event.waiting or record.unused_since is None)
        ):
            record.unused_since = now
        if isinstance(event, ConnectionWaiting):
            self._judge.check(
                event.address not in settings.listen or shown.state is not SiteState.SLEEPING,
                f"{settings.name} sleeps on though a connection waits",
            )

    # --- rest ----------------------------------------------------------------------------------

    def is_settled(self, shown: SiteSnapshot, settings: SiteSettings) -> bool:
        """Whether a site rests asleep; else its number has to be the one that its load needs."""
        judge, name = self._judge, settings.name
        visitors = judge.world.visitors.crowd(name).threads
        if settings.workers.least == 0 and not visitors and name not in judge.by_hand:
            judge.check(shown.state is SiteState.SLEEPING, f"{name} is unused and {shown.state.value}")
            judge.check(not judge.world.living(name), f"{name} is unused and its processes live on")
            judge.check(shown.error is None, f"{name} sleeps and shows an error")
            watched = set(settings.listen) <= judge.world.visitors.watched
            judge.check(watched, f"{name} sleeps and nobody watches its listeners")
            return True
        if settings.workers.scales and name not in judge.by_hand:
            load, asked = visitors / settings.threads, shown.workers_asked
            judge.check(load < asked or asked == settings.workers.most, f"{name} rests with too few workers")
            enough = max(1, settings.workers.least, min(settings.workers.most, ceil(load / 0.75)))
            judge.check(asked <= max(enough, int(load) + 1), f"{name} rests with more workers than it needs")
        return False
