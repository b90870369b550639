"""What one open page has still to be sent.

A page that reads slowly costs a bounded buffer: of what replaces itself (a snapshot) only the
newest waits, of what does not (an event) only the last so many.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

WAITING_MAX = 1000
"""Frames that wait for a page; the oldest are dropped beyond that."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event, encoded once for all pages."""

    kind: str
    data: bytes
    replaces: bool = False
    """Whether it makes an unsent earlier frame of its kind worthless."""


def frame(kind: str, value: Any, *, replaces: bool = False) -> Frame:
    """Encode a value as a server-sent event (WHATWG HTML, 9.2: one data line, for JSON has no newline)."""
    text = json.dumps(value, separators=(",", ":"))
    return Frame(kind, f"event: {kind}\ndata: {text}\n\n".encode(), replaces)


class Mailbox:
    """The frames that wait for one page."""

    def __init__(self) -> None:
        self._waiting: deque[Frame] = deque(maxlen=WAITING_MAX)
        self._newest: dict[str, Frame] = {}
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, item: Frame) -> None:
        """Add a frame; never blocks."""
        if item.replaces:
            self._newest[item.kind] = item
        else:
            self._waiting.append(item)
        self._filled.set()

    def close(self) -> None:
        """Wake the reader for the last time."""
        self._closed = True
        self._filled.set()

    async def take(self, timeout_s: float) -> bytes | None:
        """Everything that waits, as bytes to write; empty when nothing came in time, None when it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._filled.wait()
        if self._closed:
            return None
        self._filled.clear()
        frames = [*self._newest.values(), *self._waiting]
        self._newest.clear()
        self._waiting.clear()
        return b"".join(each.data for each in frames)
