"""A past for the fake daemon: series, deploys and events, answered by the real daemon's code.

A site's past is made up when it is first asked for: one second apart for a quarter of an hour, further back coarser, up
to 24 hours; in the middle of it the daemon was away for a while.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from djsup.core.model import Pid, SiteName, Slot
from djsup.core.snapshot import SiteSnapshot
from djsup.deploys import Deploys
from djsup.recorder import Noted
from djsup.records import Records
from djsup.series import MIB, SiteSeries, worker_ring
from djsup.shell.archive import Archive
from djsup.shell.history import History
from djsup_worker.scoreboard import bucket_of

PATHS = ("/", "/orders/1042/", "/api/v1/items", "/search", '/<img src=x onerror="alert(1)">')
DAY_S, HOUR_S = 24 * 3600, 3600
AFRESH_S = 5
"""Younger than a chart's step: else its last value would be missing, as where nothing is measured any more."""
AWAY_S = (9 * HOUR_S, 8.5 * HOUR_S)
"""From how long ago to how long ago no daemon was there."""


class FakeRecorder:
    """Made-up series, in the shape of ``djsup.recorder.Recorder``."""

    def __init__(self, load: Callable[[str], float], *, brief: bool) -> None:
        self._load = load
        self._brief = brief

    def site(self, site: SiteName) -> SiteSeries:
        return _made_up(site, self._load(site), int(time.time()) // AFRESH_S, brief=self._brief)

    def noted(self, site: SiteName) -> list[Noted]:
        dice, now = random.Random(site), time.time()
        return [
            Noted(
                now - ago_s, "POST" if status >= 500 else "GET", dice.choice(PATHS), status,
                0.04 if status >= 500 else 0.5 + dice.expovariate(1), Slot(dice.randrange(2)), Pid(4242),
            )
            for ago_s in range(3000, 0, -170)
            for status in [dice.choice((200, 200, 500, 503))]
        ]  # fmt: skip

    def worker(self, site: SiteName, slot: int) -> tuple[Any, Pid] | None:
        ring = worker_ring()
        now = int(time.time())
        for at in range(now - 900, now):
            wave = 1 + math.sin(at / 60 + slot)
            ring.put(at, (self._load(site) * wave / 4, wave, 3, 31 * MIB, 12 * MIB, 4 * wave, 40, 6))
        return ring, Pid(4000 + slot)


@lru_cache(maxsize=128)
def _made_up(site: str, load: float, _when: int, *, brief: bool) -> SiteSeries:
    """Kept for some seconds, for the requests that follow: it takes a tenth of a second."""
    series, dice = SiteSeries(), random.Random(site)
    now = int(time.time())
    times = (
        range(now - 1000, now + 1, 10)
        if brief
        else [
            *range(now - DAY_S, now - 5 * HOUR_S, 60),
            *range(now - 5 * HOUR_S, now - 900, 10),
            *range(now - 900, now + 1),
        ]
    )
    for at in times:
        if AWAY_S[1] < now - at < AWAY_S[0]:
            continue
        wave = 1 + 0.6 * math.sin(at / 5400) + 0.2 * math.sin(at / 240)
        rate = max(0.0, load * wave + dice.gauss(0, load * 0.08))
        errors = float(dice.randrange(3)) if dice.random() < 0.02 else 0.0
        histogram: dict[int, int] = {}
        for _ in range(4):
            bucket = bucket_of(dice.lognormvariate(-5.2 + wave / 3, 0.8))
            histogram[bucket] = histogram.get(bucket, 0) + int(rate) // 4
        busy, waits = rate / 40, max(0.0, rate / 40 - 7)
        figures = (
            rate, rate / 50, errors, busy, 8, 2, 12 + busy, waits, (60 + 9 * wave) * MIB, (30 + 9 * wave) * MIB,
            rate * 0.3, 80, 14,
        )  # fmt: skip
        series.add(at, figures, histogram)
    return series


@dataclass
class FakeObserver:
    recorder: Any


class FakePast:
    """What ``Records`` needs of a daemon."""

    def __init__(
        self, sites: Callable[[], tuple[SiteSnapshot, ...]], load: Callable[[str], float], *, brief: bool
    ) -> None:
        """``brief`` makes up a quarter of an hour alone, where there are many sites."""
        self._sites = sites
        self.observer: Any = FakeObserver(FakeRecorder(load, brief=brief))
        self.history = History()
        self.archive = Archive(Path("/nowhere/events.sqlite3"))
        self.deploys = Deploys(lambda _site: None)
        self._records = Records(self)

    def outline(self) -> tuple[SiteSnapshot, ...]:
        return self._sites()

    def has(self, request: dict[str, Any]) -> bool:
        """Whether a request is about the past."""
        pages = request["verb"] == "events" and any(request.get(key) for key in ("before", "from", "to"))
        return pages or request["verb"] in self._records.verbs()

    async def answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The lines that answer; raises the control socket's Refused."""
        if request["verb"] == "events":
            site = request.get("site")
            for event in await self._records.events(request, None if site is None else SiteName(site)):
                yield {"event": event}
            yield {"ok": True, "result": {}}
            return
        async for line in self._records.verbs()[request["verb"]](request, ""):
            yield {"ok": True, **line}

    def deployed(
        self, site: str, ago_s: float, result: str, took_s: float, error: str | None, details: str
    ) -> None:
        """Add a deploy of the past."""
        at = datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds")
        number = sum(len(self.deploys.last(each.name, 1000)) for each in self._sites()) + 1
        self.deploys.recall(
            [
                {
                    "id": number, "site": site, "generation": number, "started_at": at.replace("+00:00", "Z"),
                    "duration_s": took_s, "result": result, "error": error, "traceback": details, "by": "root (cli)",
                }
            ]
        )  # fmt: skip
