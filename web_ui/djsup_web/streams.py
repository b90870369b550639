"""Server-sent events: writes what a page's mailbox holds until the page or the dashboard goes.

``live`` decides what is in the mailbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from djsup_web.live import TooManyPages
from djsup_web.shield import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from djsup_web.mailbox import Mailbox

HEARTBEAT_S = 15.0
"""Longest silence; a comment is sent, so that a page that is gone is noticed."""
STALL_S = 20.0
"""A page that reads nothing for so long is given up."""
RETRY = b"retry: 1000\n\n"
"""How long the browser waits before it comes back, in milliseconds."""


async def serve(
    request: web.Request,
    subscription: AbstractContextManager[Mailbox],
    still_welcome: Callable[[], bool],
) -> web.StreamResponse:
    """Stream to one page; ends when its session does.

    Raises:
        Refusal: 503, there are too many pages.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"},
    )
    try:
        with subscription as mailbox:
            await response.prepare(request)
            await response.write(RETRY)
            while (data := await mailbox.take(HEARTBEAT_S)) is not None and still_welcome():
                async with asyncio.timeout(STALL_S):
                    await response.write(data or b": still here\n\n")
    except TooManyPages as full:
        raise Refusal(503, str(full)) from full
    except (ConnectionResetError, TimeoutError):
        # Gone, or as good as gone: nobody is left to be told.
        if request.transport is not None:
            request.transport.abort()
    return response
