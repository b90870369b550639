"""Puts the dashboard together: one application of pages, API and the checks before both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from djsup_web import shield as shield_module
from djsup_web.api import Api
from djsup_web.auth import Attempts, Sessions, Token
from djsup_web.live import Live
from djsup_web.pages import Pages
from djsup_web.shield import METRICS, PUBLIC, Shield

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup_web.hosts import HostRule
    from djsup_web.static_files import StaticFiles
    from djsup_web.upstream import Upstream

BODY_MAX_BYTES = 4096
"""The largest body of a request: a token or a number."""


def build(
    upstream: Upstream,
    static: StaticFiles,
    hosts: HostRule,
    token_sha256: bytes,
    *,
    metrics_public: bool = False,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> web.Application:
    """The application, ready to be served."""
    public = PUBLIC | {METRICS} if metrics_public else PUBLIC
    shield = Shield(hosts, Token(token_sha256), Sessions(token_sha256, wall_clock), Attempts(clock), public)
    live = Live(upstream)
    app = web.Application(middlewares=shield.middlewares(), client_max_size=BODY_MAX_BYTES)
    app.add_routes(Pages(shield, static).routes())
    app.add_routes(Api(upstream, live, shield).routes())
    app.on_response_prepare.append(shield_module.add_headers)

    async def end_streams(_app: web.Application) -> None:
        await live.close()

    app.on_shutdown.append(end_streams)
    return app
