"""The daemon, as the dashboard sees it: questions, orders and streams over the control socket.

Knows the verbs; ``djsup.client`` knows the protocol, and its errors (NotRunning, TimedOut, Refused)
go through unchanged. Keeps a picture of the fleet for a second, so that health checks in a hurry,
which anybody may ask, are one question upstream.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from djsup.client import RESULT, AsyncClient, TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

WATCH_INTERVAL_S = 1.0
SILENCE_MAX_S = 5.0
"""A daemon that sends no picture for so long does not answer."""
STATUS_KEEP_S = 1.0
"""How long an answer to ``status`` is good enough for the next who asks."""
ANSWER_S = 5.0
"""How long a question may take. An order (reload, restart) takes as long as the daemon's own limits."""
TRACE_S = 60.0
"""How long the stacks of all threads may take: some process may not answer."""
EVENTS_REPLAYED = 200
LOG_LINES_REPLAYED = 500


class Upstream:
    """What can be asked of the daemon behind one control socket."""

    def __init__(self, control: str, folder: str | None = None) -> None:
        """``folder`` is what messages call the socket's place, where ``control`` does not name it."""
        self._client = AsyncClient(control)
        if folder is not None:
            self._client.runtime_dir = folder
        self._picture: dict[str, Any] | None = None
        self._picture_at = 0.0
        self._figures: dict[str, Any] | None = None
        self._figures_at = 0.0
        self._asking = asyncio.Lock()

    async def status(self) -> dict[str, Any]:
        """The picture of the fleet, at most STATUS_KEEP_S old."""
        async with self._asking:
            if self._picture is None or time.monotonic() - self._picture_at > STATUS_KEEP_S:
                self._picture = None
                self._picture = await self._client.call("status", ANSWER_S)
                self._picture_at = time.monotonic()
            return self._picture

    async def metrics(self) -> dict[str, Any]:
        """Counters and gauges for monitoring, at most STATUS_KEEP_S old: everybody may ask, if so configured."""
        async with self._asking:
            if self._figures is None or time.monotonic() - self._figures_at > STATUS_KEEP_S:
                self._figures = None
                self._figures = _object(await self._client.call("metrics", ANSWER_S))
                self._figures_at = time.monotonic()
            return self._figures

    async def trace(self, site: str) -> dict[str, Any]:
        """Where every thread of a site is, now."""
        return _object(await self._client.call("trace", TRACE_S, site=site))

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """A question whose answer is one object."""
        return _object(await self._client.call(verb, ANSWER_S, **arguments))

    async def history(self, site: str | None, limit: int, **page: Any) -> list[dict[str, Any]]:
        """The last events, of all sites or of one, oldest first; ``page`` may say before, from or to."""
        return await self._collect("events", "event", site=site, follow=False, limit=limit, **page)

    async def log_lines(self, site: str, limit: int) -> list[dict[str, Any]]:
        """The last lines of a site's log, oldest first."""
        return await self._collect("logs", "log", site=site, follow=False, limit=limit)

    async def reload(
        self, sites: list[str], progress: Callable[[str, str], None], canary_s: float | None = None
    ) -> dict[str, Any]:
        """Load the code of these sites anew (none named: the configuration and all sites), and wait."""
        wishes = {} if canary_s is None else {"canary_s": canary_s}
        return await self._order("reload", progress, sites=sites, wait=True, **wishes)

    async def plan(self) -> dict[str, Any]:
        """What a reload of everything would change."""
        return _object(await self._client.call("plan", ANSWER_S))

    async def rollback(self, site: str, progress: Callable[[str, str], None]) -> dict[str, Any]:
        """Bring a site's former code back, and wait."""
        return await self._order("rollback", progress, site=site, wait=True)

    async def restart(self, site: str, progress: Callable[[str, str], None]) -> dict[str, Any]:
        """Stop and start a site, and wait."""
        return await self._order("restart", progress, site=site, wait=True)

    async def stop(self, site: str, progress: Callable[[str, str], None], *, now: bool) -> dict[str, Any]:
        """Stop a site, at once or when its requests are finished, and wait."""
        done = await self._order("stop_sites", progress, sites=[site], now=now, wait=True)
        return _object(done["sites"][0])

    async def start(self, site: str, progress: Callable[[str, str], None]) -> dict[str, Any]:
        """Start a site that was stopped, and wait."""
        done = await self._order("start_sites", progress, sites=[site], wait=True)
        return _object(done["sites"][0])

    async def scale(self, site: str, workers: int | str) -> dict[str, Any]:
        """Set the number of workers, or change it by "+1" or "-1"."""
        return _object(await self._client.call("scale", ANSWER_S, site=site, workers=workers))

    async def profile(
        self, site: str, seconds: float, progress: Callable[[str, str], None]
    ) -> dict[str, Any]:
        """Where a site's threads spend their time, seen for so many seconds."""
        return await self._order("profile", progress, site=site, seconds=seconds)

    async def snapshots(self) -> AsyncGenerator[Any, None]:
        """The picture about once a second and soon after each event, until the daemon goes.

        Raises:
            TimedOut: nothing came for SILENCE_MAX_S.
        """
        lines = self._stream("snapshot", "watch", interval_s=WATCH_INTERVAL_S)
        async with aclosing(lines):
            while True:
                try:
                    async with asyncio.timeout(SILENCE_MAX_S):
                        picture = await anext(lines, None)
                except TimeoutError as error:
                    raise TimedOut(f"the daemon has said nothing for {SILENCE_MAX_S:.0f} s") from error
                if picture is None:
                    return
                yield picture

    def events(self) -> AsyncGenerator[Any, None]:
        """The last events and every further one."""
        return self._stream("event", "events", follow=True, limit=EVENTS_REPLAYED)

    def tokens(self) -> AsyncGenerator[Any, None]:
        """The hashes of the tokens that are valid, now and whenever they change."""
        return self._stream("tokens", "tokens")

    def log(self, site: str) -> AsyncGenerator[Any, None]:
        """The last lines of a site's log and every further one."""
        return self._stream("log", "logs", site=site, follow=True, limit=LOG_LINES_REPLAYED)

    async def _stream(self, kind: str, verb: str, **arguments: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(self._client.stream(verb, **arguments)) as lines:
            async for line in lines:
                if line.kind == kind:
                    yield line.value

    async def _collect(self, verb: str, kind: str, **arguments: Any) -> list[dict[str, Any]]:
        async with aclosing(self._client.stream(verb, ANSWER_S, **arguments)) as lines:
            return [line.value async for line in lines if line.kind == kind]

    async def _order(
        self, verb: str, progress: Callable[[str, str], None], **arguments: Any
    ) -> dict[str, Any]:
        self._picture = None
        async with aclosing(self._client.stream(verb, **arguments)) as lines:
            async for line in lines:
                if line.kind == "progress":
                    progress(line.value["site"], line.value["text"])
                elif line.kind == RESULT:
                    return _object(line.value)
        raise AssertionError("an answer ends with a result or an error")


def _object(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict), f"a result is an object, not {value!r}"
    return value
