"""Answers: what a worker or template tells through a pipe that a message brought it.

The pipe's end also tells that the other side is gone, or does not know the question: it is read to its end, within
limits of time and size.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BITE_BYTES = 64 * 1024


async def read(ask: Callable[[int], None], within_s: float, most_bytes: int) -> bytes:
    """All that is told within a time; empty: nothing, or not to its end. ``ask`` sends the writing end."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        ask(writing)
    finally:
        os.close(writing)
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
    )
    text = bytearray()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (more := await stream.read(BITE_BYTES)) and len(text) <= most_bytes:
                    text += more
                return bytes(text)
        return b""
    finally:
        transport.close()
