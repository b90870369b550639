"""History: the events that operators ask for, numbered and bounded.

Kept in memory; ``keep`` may have them kept elsewhere, too. Knows nothing of why an event happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 5000
"""Events that are kept."""
DETAILS_MAX = 32 * 1024
"""Characters of an event's details; the end is kept, for it says what went wrong."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as operators see it."""

    id: int
    at: str
    """ISO 8601, UTC."""
    kind: str
    level: str
    text: str
    site: str | None = None
    generation: int | None = None
    pid: int | None = None
    by: str = ""
    details: str = ""

    def to_json(self) -> dict[str, object]:
        """As the control socket shows it."""
        return {name: getattr(self, name) for name in self.__slots__}


class History:
    """The last events, and those who follow them."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._numbers = count(1)
        self._followers: set[asyncio.Queue[Entry]] = set()
        self.keep: Callable[[Entry], None] = lambda _entry: None
        """Called with each new event."""
        self.counts: Counter[tuple[str | None, str]] = Counter()
        """How many events of each site and kind there were."""

    def add(
        self,
        kind: str,
        text: str,
        *,
        level: str = "info",
        site: str | None = None,
        generation: int | None = None,
        pid: int | None = None,
        by: str = "",
        details: str = "",
    ) -> Entry:
        """Record an event that happened now."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        details = details[-DETAILS_MAX:]
        entry = Entry(next(self._numbers), at, kind, level, text, site, generation, pid, by, details)
        self._entries.append(entry)
        self.counts[site, kind] += 1
        self.keep(entry)
        for follower in self._followers:
            with suppress(asyncio.QueueFull):
                follower.put_nowait(entry)
        return entry

    def recall(self, entries: list[dict[str, Any]]) -> None:
        """Begin with the events of a daemon that was here before; what cannot be read is left out.

        They are not counted: whoever watches the counts saw them begin anew.
        """
        for each in entries:
            with suppress(TypeError):
                self._entries.append(Entry(**each))
        if self._entries:
            self._numbers = count(self._entries[-1].id + 1)

    def last(self, site: str | None, limit: int) -> list[Entry]:
        """The last events of one site, or of all, oldest first."""
        found = [entry for entry in self._entries if site is None or entry.site == site]
        return found[-limit:] if limit > 0 else []

    def follow(self) -> asyncio.Queue[Entry]:
        """A queue that gets every event from now on; give it back with ``unfollow``."""
        follower: asyncio.Queue[Entry] = asyncio.Queue(KEPT)
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: asyncio.Queue[Entry]) -> None:
        """Stop filling a queue that ``follow`` gave."""
        self._followers.discard(follower)
