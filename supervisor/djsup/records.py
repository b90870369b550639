"""The desk's verbs about the past: series of figures and deploys; and events page by page.

Each is an async generator of the answer's lines, as in ``desk``, which knows who asks. Times are given and shown as
seconds since the epoch where they are of figures, and as ISO 8601 in UTC where they are of events.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from djsup.core.model import SLOTS, SiteName
from djsup.series import (
    MINUTE_S,
    POINTS_MAX,
    SECOND_S,
    TEN_S,
    Bin,
    SiteSeries,
    choose_step,
    in_steps,
    worker_ring,
)
from djsup.shell.control import Refused
from djsup.shell.history import KEPT
from djsup_worker.scoreboard import NOTED_NS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from djsup.core.snapshot import SiteSnapshot
    from djsup.deploys import Deploys
    from djsup.recorder import Noted, Recorder
    from djsup.shell.archive import Archive
    from djsup.shell.history import History

    Answer = AsyncGenerator[dict[str, Any], None]

TIME_MAX_S = 2**33
"""The year 2242."""
DEFAULT_S = 15 * 60
FAILED_FROM = 500
"""The first status that says that the server has failed (RFC 9110, 15.6)."""
SPARKS_POINTS = 30
SPARKS_MINUTES_MAX = 60
PAGE_DEFAULT, PAGE_MAX = 100, 1000
ARCHIVE_READ = 5_000
"""Events of the archive that are looked through at once for those of one site or time."""


class Observer(Protocol):
    """What is needed of the observer."""

    recorder: Recorder


class Daemon(Protocol):
    """What is needed of the daemon."""

    @property
    def observer(self) -> Observer:
        """Has the recorder."""

    archive: Archive
    deploys: Deploys
    history: History

    def outline(self) -> tuple[SiteSnapshot, ...]:
        """The sites now, without figures."""


class Records:
    """Answers questions about the past."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def verbs(self) -> dict[str, Callable[[dict[str, Any], str], Answer]]:
        """What can be asked."""
        return {
            "series": self.series,
            "sparks": self.sparks,
            "worker-series": self.worker_series,
            "deploys": self.deploys,
            "requests": self.requests,
        }

    async def series(self, request: dict[str, Any], _by: str) -> Answer:
        """What was measured of a site in some time."""
        site = self._site(request)
        begin, end = _range(request)
        step_s = _step(request, begin, end)
        known = self._daemon.observer.recorder.site(site) or SiteSeries()
        older: dict[int, Bin] = {}
        if step_s >= MINUTE_S:
            begin -= begin % step_s
            here = known.first_minute
            older = await asyncio.to_thread(
                self._from_archive, site, begin, end if here is None else min(here, end), step_s
            )
        table = known.table(begin, end, step_s, older)
        yield {"result": {"site": site, "from": table.begin, "to": end, **table.to_json()}}

    def _from_archive(self, site: SiteName, begin: int, end: int, step_s: int) -> dict[int, Bin]:
        """What was measured before what is in memory. In a thread."""
        if begin >= end:
            return {}
        return in_steps(self._daemon.archive.minutes(site, begin, end), step_s)

    async def sparks(self, request: dict[str, Any], _by: str) -> Answer:
        """The last minutes of all sites, coarse: for a line beside each name."""
        minutes = int(_number(request, "minutes", DEFAULT_S / 60, 1, SPARKS_MINUTES_MAX))
        step_s = max(TEN_S, minutes * 60 // SPARKS_POINTS // TEN_S * TEN_S)
        end = int(time.time()) // step_s * step_s
        begin = end - minutes * 60 // step_s * step_s
        sites = {}
        for site in self._daemon.outline():
            known = self._daemon.observer.recorder.site(SiteName(site.name))
            sites[site.name] = (known or SiteSeries()).sparks(begin, end, step_s)
        yield {"result": {"step_s": step_s, "from": begin, "to": end, "sites": sites}}

    async def worker_series(self, request: dict[str, Any], _by: str) -> Answer:
        """What was measured of a worker's slot, second by second."""
        site = self._site(request)
        slot = int(_number(request, "slot", -1, 0, SLOTS - 1))
        begin, end = _range(request)
        begin = max(begin, end - POINTS_MAX)
        known = self._daemon.observer.recorder.worker(site, slot)
        ring, pid = known if known is not None else (worker_ring(), None)
        table = ring.table(begin, end)
        yield {
            "result": {"site": site, "slot": slot, "pid": pid, "from": begin, "to": end, **table.to_json()}
        }

    async def deploys(self, request: dict[str, Any], _by: str) -> Answer:
        """The reloads and rollbacks of a site that are over, newest first."""
        site = self._site(request)
        before, limit, begin, end = _page(request)
        found = self._daemon.deploys.last(site, limit + 1, before, begin, end)
        yield {"result": {"deploys": [each.to_json() for each in found[:limit]], "more": len(found) > limit}}

    async def requests(self, request: dict[str, Any], _by: str) -> Answer:
        """Requests of a site that failed, newest first, and that were slow, slowest first."""
        site = self._site(request)
        limit = int(_number(request, "limit", PAGE_DEFAULT, 1, PAGE_MAX))
        noted = self._daemon.observer.recorder.noted(site)
        failed = [each for each in reversed(noted) if each.status >= FAILED_FROM]
        slow = sorted((each for each in noted if each.took_s * 1e9 > NOTED_NS), key=lambda each: -each.took_s)
        yield {
            "result": {
                "failed": [_noted(each) for each in failed[:limit]],
                "slowest": [_noted(each) for each in slow[:limit]],
                "slow_ms": NOTED_NS / 1e6,
            }
        }

    async def events(self, request: dict[str, Any], site: SiteName | None) -> list[dict[str, Any]]:
        """A page of what happened, oldest first: the last events before a number or in some time, also archived ones."""
        before, limit, begin, end = _page(request)
        here = self._daemon.history.last(None, KEPT)
        oldest = here[0].id if here else TIME_MAX_S
        found = [
            entry.to_json()
            for entry in reversed(here)
            if (before is None or entry.id < before)
            and (site is None or entry.site == site)
            and begin <= entry.at < end
        ]
        oldest = oldest if before is None else min(oldest, before)
        there = not here or here[0].at >= begin
        while there and len(found) < limit:
            older = await asyncio.to_thread(self._daemon.archive.events_before, oldest, ARCHIVE_READ)
            found += [
                each
                for each in older
                if (site is None or each.get("site") == site) and begin <= str(each.get("at")) < end
            ]
            there = len(older) == ARCHIVE_READ and str(older[-1].get("at")) >= begin
            oldest = older[-1]["id"] if older else 0
        return found[limit - 1 :: -1] if len(found) >= limit else found[::-1]

    def _site(self, request: dict[str, Any]) -> SiteName:
        name = request.get("site")
        names = [site.name for site in self._daemon.outline()]
        if name not in names:
            raise Refused(f"no site {name!r}; there are: {', '.join(names) or 'none'}", 2)
        return SiteName(str(name))


def _noted(each: Noted) -> dict[str, Any]:
    return {
        "at": _iso(each.at),
        "method": each.method,
        "path": each.path,
        "status": each.status,
        "duration_ms": round(each.took_s * 1000, 1),
        "slot": each.slot,
        "pid": each.pid,
    }


def _number(request: dict[str, Any], key: str, default: float, least: float, most: float) -> float:
    number = request.get(key)
    if number is None:
        number = default
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        raise Refused(f"{key} is {number!r}; it must be a number from {least} to {most}", 2)
    return float(number)


def _range(request: dict[str, Any]) -> tuple[int, int]:
    """From when to when: the last 15 minutes, if nothing else is said."""
    end = _number(request, "to", math.floor(time.time()), 0, TIME_MAX_S)
    begin = _number(request, "from", max(0.0, end - DEFAULT_S), 0, TIME_MAX_S)
    if begin >= end:
        raise Refused(f"from ({begin:.0f}) must be before to ({end:.0f})", 2)
    return math.floor(begin), math.ceil(end)


def _step(request: dict[str, Any], begin: int, end: int) -> int:
    """The step that is asked for, else one that suits."""
    step_s = int(_number(request, "step", 0, 0, 24 * 3600))
    if not step_s:
        step_s = choose_step(begin, end, time.time())
    elif step_s not in (SECOND_S, TEN_S) and step_s % MINUTE_S:
        raise Refused(f"step is {step_s}; it must be 1, 10 or a multiple of 60 (seconds)", 2)
    if (end - begin) / step_s > POINTS_MAX:
        most = f"at most {POINTS_MAX} points are given at once"
        raise Refused(f"{end - begin} s in steps of {step_s} s are too many: {most}", 2)
    return step_s


def _page(request: dict[str, Any]) -> tuple[int | None, int, str, str]:
    """Before which number, how many, and from when to when (ISO 8601)."""
    before = request.get("before")
    if before is not None:
        before = int(_number(request, "before", 0, 1, 2**53))
    limit = int(_number(request, "limit", PAGE_DEFAULT, 1, PAGE_MAX))
    begin = _iso(_number(request, "from", 0, 0, TIME_MAX_S))
    end = _iso(_number(request, "to", TIME_MAX_S, 0, TIME_MAX_S))
    return before, limit, begin, end


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
