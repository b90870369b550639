"""The timetable: when scheduled commands are due by the clock on the wall.

The core knows no such clock. Here the wall clock is compared with the monotonic one at every look, so
that a jump is seen as one. A jump of up to three hours changes nothing that cron(8) would not: what was
passed over is run once, and what ran is not run again. After a longer one the clock is taken to have been
wrong before, and what is due is reckoned from the new time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim

from djsup.core.events import RunAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djsup.core.events import Event
    from djsup.core.model import Settings, SiteName
    from djsup.core.snapshot import SiteSnapshot

JUMP_MAX_S = 3 * 3600.0
"""A longer jump is a correction of the clock (cron(8) of Debian draws the line there)."""
BY = "schedule"
LOCALTIME = Path("/etc/localtime")


@dataclass(slots=True)
class Entry:
    """One scheduled command."""

    schedule: str
    next_at: float | None
    """Seconds since the epoch; None: never."""


class Timetable:
    """What is due when. ``look`` is called once a second."""

    def __init__(self, tell: Callable[[Event], None], zone: tzinfo | None = None) -> None:
        self._tell = tell
        self._zone = zone or local_zone()
        self._entries: dict[tuple[SiteName, str], Entry] = {}
        self._offset: float | None = None
        """Wall clock minus monotonic clock at the last look."""

    def adopt(self, settings: Settings, wall: float) -> None:
        """Schedule what these settings name; what is scheduled already goes on as it was."""
        entries = {}
        for name, program, schedule in _scheduled(settings):
            old = self._entries.get((name, program))
            same = old is not None and old.schedule == schedule
            entries[name, program] = (
                old if old is not None and same else Entry(schedule, self.next_after(schedule, wall))
            )
        self._entries = entries

    def look(self, wall: float, monotonic: float) -> None:
        """Tell of every command whose time has come since the last look."""
        offset = wall - monotonic
        jumped_s = 0.0 if self._offset is None else offset - self._offset
        self._offset = offset
        if abs(jumped_s) > JUMP_MAX_S:
            for each in self._entries.values():
                each.next_at = self.next_after(each.schedule, wall)
            return
        for (site, program), each in self._entries.items():
            if each.next_at is not None and wall >= each.next_at:
                each.next_at = self.next_after(each.schedule, wall)
                self._tell(RunAsked(site, program, BY))

    def complete(self, site: SiteSnapshot) -> SiteSnapshot:
        """The core's snapshot of a site, with the times of its next runs."""
        if not any(each.schedule for each in site.programs):
            return site
        times = {
            program: each.next_at for (name, program), each in self._entries.items() if name == site.name
        }
        programs = tuple(
            replace(each, next_run_at=times.get(each.name)) if each.schedule else each
            for each in site.programs
        )
        return replace(site, programs=programs)

    def next_after(self, schedule: str, wall: float) -> float | None:
        """The next time of a schedule after a moment, as seconds since the epoch; None: there is none.

        Summer time is dealt with as Debian's cron does: what is due in an hour that is left out runs
        at its end, what is due in an hour that comes twice runs once.
        """
        found = next(CronSim(schedule, datetime.fromtimestamp(wall, self._zone)), None)
        return None if found is None else found.timestamp()


def _scheduled(settings: Settings) -> Iterator[tuple[SiteName, str, str]]:
    for site in settings.sites:
        for program in site.programs:
            if program.schedule is not None:
                yield site.name, program.name, program.schedule


def local_zone() -> tzinfo:
    """The time zone that TZ names, else the machine's (/etc/localtime), else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            pass
    try:
        with LOCALTIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
