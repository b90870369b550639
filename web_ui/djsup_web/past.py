"""The API about the past: series of figures, deploys, and what a page of events is asked by.

The daemon decides what is kept and in which steps; here is only what may be asked at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from djsup_web.shield import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from djsup_web.upstream import Upstream

TIME_MAX_S = 2**33
SLOTS = 128
STEP_MAX_S = 24 * 3600
MINUTES_MAX = 60
PAGE_MAX = 1000
NUMBER_MAX = 2**53
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)


class Past:
    """The handlers and what they need. ``known`` gives the name of a request's site, or refuses."""

    def __init__(self, upstream: Upstream, known: Callable[[web.Request], Awaitable[str]]) -> None:
        self._upstream = upstream
        self._known = known

    def routes(self) -> list[web.RouteDef]:
        """Every path about the past."""
        return [
            web.get("/api/series", self.sparks),
            web.get("/api/sites/{name}/series", self.series),
            web.get("/api/sites/{name}/deploys", self.deploys),
            web.get("/api/sites/{name}/requests", self.requests),
            web.get("/api/sites/{name}/workers/{slot}/series", self.worker_series),
        ]

    async def sparks(self, request: web.Request) -> web.Response:
        """The last minutes of all sites, coarse."""
        minutes = whole(request.query, "minutes", 1, MINUTES_MAX)
        return web.json_response(await self._upstream.ask("sparks", minutes=minutes))

    async def series(self, request: web.Request) -> web.Response:
        """What was measured of a site."""
        asked = times(request.query)
        step = whole(request.query, "step", 1, STEP_MAX_S)
        site = await self._known(request)
        return web.json_response(await self._upstream.ask("series", site=site, step=step, **asked))

    async def worker_series(self, request: web.Request) -> web.Response:
        """What was measured of a worker's slot."""
        asked = times(request.query)
        slot = whole(request.match_info, "slot", 0, SLOTS - 1)
        site = await self._known(request)
        return web.json_response(await self._upstream.ask("worker-series", site=site, slot=slot, **asked))

    async def deploys(self, request: web.Request) -> web.Response:
        """The reloads and rollbacks of a site that are over, newest first."""
        asked = page(request.query)
        limit = whole(request.query, "limit", 1, PAGE_MAX)
        site = await self._known(request)
        return web.json_response(await self._upstream.ask("deploys", site=site, limit=limit, **asked))

    async def requests(self, request: web.Request) -> web.Response:
        """The last requests of a site that failed or were slow."""
        limit = whole(request.query, "limit", 1, PAGE_MAX)
        site = await self._known(request)
        return web.json_response(await self._upstream.ask("requests", site=site, limit=limit))


def times(query: Mapping[str, str]) -> dict[str, Any]:
    """From when to when, in seconds since the epoch; left out where nothing is said.

    Raises:
        Refusal: 400, a time is none, or the end is not after the beginning.
    """
    found = {name: whole(query, name, 0, TIME_MAX_S) for name in ("from", "to")}
    asked = {name: at for name, at in found.items() if at is not None}
    if "from" in asked and "to" in asked and asked["from"] >= asked["to"]:
        raise Refusal(400, '"from" has to be before "to".')
    return asked


def page(query: Mapping[str, str]) -> dict[str, Any]:
    """Which page: the times, and before which number; left out where nothing is said.

    Raises:
        Refusal: 400, as for ``times``.
    """
    asked = times(query)
    before = whole(query, "before", 1, NUMBER_MAX)
    return asked if before is None else {**asked, "before": before}


def whole(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A whole number in bounds; None: nothing is said.

    Raises:
        Refusal: 400, it is none.
    """
    text = query.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise Refusal(400, f'"{name}" is a number from {least} to {most}.')
    return int(text)
