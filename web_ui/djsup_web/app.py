"""Puts the dashboard together: one application of pages, API and the checks before both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from djsup_web import shield as shield_module
from djsup_web.api import Api
from djsup_web.auth import Attempts, Sessions, Tokens
from djsup_web.live import Live
from djsup_web.pages import Pages
from djsup_web.proxies import NONE, Proxies
from djsup_web.shield import METRICS, PUBLIC, Shield

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djsup_web.hosts import HostRule
    from djsup_web.static_files import StaticFiles
    from djsup_web.upstream import Upstream

BODY_MAX_BYTES = 4096
"""The largest body of a request: a token or a number."""


def build(
    upstream: Upstream,
    static: StaticFiles,
    hosts: HostRule,
    tokens: Tokens,
    *,
    metrics_public: bool = False,
    prefix: str = "",
    proxies: Proxies = NONE,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> web.Application:
    """The application, ready to be served.

    Below ``prefix`` it answers as it does without: some proxies pass on the path that was asked for, others cut off
    what it begins with.
    """
    public = PUBLIC | {METRICS} if metrics_public else PUBLIC
    shield = Shield(
        hosts,
        tokens,
        Sessions(tokens, wall_clock),
        Attempts(clock),
        public,
        proxies,
        prefix,
    )
    live = Live(upstream)
    app = web.Application(middlewares=shield.middlewares(), client_max_size=BODY_MAX_BYTES)
    routes = [*Pages(shield, static).routes(), *Api(upstream, live, shield).routes()]
    app.add_routes(routes)
    if prefix:
        app.add_routes(
            web.RouteDef(each.method, prefix + each.path, each.handler, each.kwargs) for each in routes
        )
        app.router.add_get(prefix, _into(f"{prefix}/"))
    app.on_response_prepare.append(shield_module.add_headers)

    async def end_streams(_app: web.Application) -> None:
        await live.close()

    app.on_shutdown.append(end_streams)
    return app


def _into(folder: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Sends on to a folder's own address: what a page names is relative to that."""

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPSeeOther(folder)

    return redirect
