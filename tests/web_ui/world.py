"""A dashboard in this process on a real socket, in front of a fake daemon on a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from djsup_web import app, hosts, proxies
from djsup_web.auth import Tokens
from djsup_web.static_files import StaticFiles
from djsup_web.upstream import Upstream
from web_ui.dashboard_process import TOKEN
from web_ui.fake_daemon import FakeDaemon

WAIT_S = 10.0
CHANGE = {"X-Djsup": "1"}
READ_TOKEN = "a-token-that-may-only-look-77a0"
LOOK = {"Authorization": f"Bearer {READ_TOKEN}"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def sha256(token: str) -> bytes:
    """What the dashboard knows of a token."""
    return hashlib.sha256(token.encode()).digest()


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """What a test of the server has in its hands."""

    daemon: FakeDaemon
    http: aiohttp.ClientSession
    """Keeps no cookies: a test says what it sends."""
    url: str
    port: int
    clock: Clock
    routes: set[tuple[str, str]]
    """Path and method of every route of the API."""
    tokens: Tokens

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a GET with the token."""
        async with self.http.get(self.url + path, headers={**BEARER, **headers}) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of a change with the token."""
        async with self.http.post(self.url + path, headers={**BEARER, **CHANGE}, json=body) as answer:
            return answer.status, await answer.json()

    async def log_in(self, token: str = TOKEN) -> str:
        """The Cookie header of a new session."""
        async with self.http.post(
            f"{self.url}/login", data={"token": token}, allow_redirects=False
        ) as answer:
            assert answer.status == 303
            (morsel,) = answer.cookies.values()
            return f"{morsel.key}={morsel.value}"

    @asynccontextmanager
    async def stream(self, path: str = "/api/events", **headers: str) -> AsyncIterator[Events]:
        """An open stream of server-sent events."""
        async with self.http.get(self.url + path, headers=headers or BEARER) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            yield Events(answer)


class Events:
    """Reads server-sent events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self, kind: str) -> str:
        """The data of the next event of a kind."""
        async with asyncio.timeout(WAIT_S):
            name = ""
            while line := await self.answer.content.readline():
                key, _, value = line.decode().rstrip("\n").partition(": ")
                if key == "event":
                    name = value
                elif key == "data" and name == kind:
                    return value
        raise AssertionError("the stream ended")

    async def end(self) -> None:
        """Read until the server closes the stream."""
        async with asyncio.timeout(WAIT_S):
            while await self.answer.content.readline():
                pass


@asynccontextmanager
async def world(
    folder: Path,
    *,
    sites: int = 2,
    listen: str | None = None,
    metrics_public: bool = False,
    prefix: str = "",
    names: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> AsyncIterator[World]:
    """A dashboard before a fake daemon."""
    daemon = FakeDaemon(folder / "control.sock", sites, lively=False)
    daemon.interval_s = 0.05
    await daemon.start()
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    clock = Clock()
    tokens = Tokens([sha256(TOKEN)], [sha256(READ_TOKEN)])
    application = app.build(
        Upstream(str(daemon.path)),
        StaticFiles(),
        hosts.rule_for(listener, listen or f"127.0.0.1:{port}", names),
        tokens,
        metrics_public=metrics_public,
        prefix=prefix,
        proxies=proxies.parse(trusted),
        clock=clock,
        wall_clock=clock,
    )
    routes = {
        (route.resource.canonical, route.method)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    api = {
        (path, method)
        for path, method in routes
        if path.startswith("/api/") or path in {"/healthz", "/metrics"}
    }
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        stack.push_async_callback(daemon.stop)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=WAIT_S),
                trust_env=False,
            )
        )
        yield World(daemon, http, f"http://127.0.0.1:{port}", port, clock, api, tokens)


def scene(play: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Makes a test of a coroutine that is given a new world."""

    def test(tmp_path: Path) -> None:
        async def main() -> None:
            async with world(tmp_path) as here:
                await play(here)

        asyncio.run(main())

    test.__name__ = play.__name__
    return test


async def until(question: Callable[[], bool], what: str) -> None:
    """Wait for something that tells nobody when it happens."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not question():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {WAIT_S} s for {what}") from None
