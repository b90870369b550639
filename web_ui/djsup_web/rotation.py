"""Rotation: other tokens than at the start, as soon as the daemon sees that their files have changed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from djsup.client import ClientError

if TYPE_CHECKING:
    from djsup_web.auth import Tokens
    from djsup_web.upstream import Upstream

AGAIN_S = 5.0
"""How long to wait before the daemon is asked again, when it does not answer."""


async def rotate(upstream: Upstream, tokens: Tokens) -> None:
    """Keep the tokens as the daemon says, for ever. Those that are known stay while it says nothing."""
    while True:
        try:
            async with aclosing(upstream.tokens()) as hashes:
                async for valid in hashes:
                    full, read_only = (
                        [bytes.fromhex(each) for each in valid[kind]] for kind in ("full", "read")
                    )
                    tokens.replace(full, read_only)
        except ClientError:
            pass
        await asyncio.sleep(AGAIN_S)
