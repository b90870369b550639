"""One upstream stream, shared by however many pages want it.

It runs while somebody reads it (and a moment longer, so that turning a page does not hang up),
comes back by itself when the daemon was away, and replays the last items to who joins late.
With no page open the daemon is asked nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from djsup.client import ClientError
from djsup_web.mailbox import Frame, Mailbox, frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

LINGER_S = 3.0
"""How long a stream that nobody reads is kept open."""
RETRY_FIRST_S, RETRY_MOST_S = 0.25, 2.0
"""Pause before the first and before every later try to come back."""


class Feed:
    """A stream of the daemon and the pages that read it.

    ``source`` opens the stream anew at each call. ``keep`` items are replayed to who joins; with
    ``replaces`` an item makes all before it worthless. ``reports_link`` adds ``link`` frames that
    tell whether the daemon answers.
    """

    def __init__(
        self,
        kind: str,
        source: Callable[[], AsyncGenerator[Any, None]],
        *,
        keep: int = 1,
        replaces: bool = False,
        reports_link: bool = False,
    ) -> None:
        self.latest: Any = None
        """The newest item while the stream is up, else None."""
        self._kind = kind
        self._source = source
        self._replaces = replaces
        self._reports_link = reports_link
        self._kept: deque[Frame] = deque(maxlen=keep)
        self._link: Frame | None = None
        self._readers: set[Mailbox] = set()
        self._task: asyncio.Task[None] | None = None
        self._hang_up: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nobody reads."""
        return self._task is None and not self._readers

    @contextmanager
    def joined(self, mailbox: Mailbox) -> Iterator[None]:
        """Have everything put into ``mailbox``, first what is known already."""
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
        if self._link is not None:
            mailbox.put(self._link)
        for known in self._kept:
            mailbox.put(known)
        self._readers.add(mailbox)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"feed {self._kind}")
        try:
            yield
        finally:
            self._readers.discard(mailbox)
            if not self._readers and self._task is not None:
                self._hang_up = asyncio.get_running_loop().call_later(LINGER_S, self._stop)

    async def close(self) -> None:
        """End the stream for good; readers are told."""
        for reader in self._readers:
            reader.close()
        task = self._task
        self._stop()
        if task is not None:
            await asyncio.wait([task])

    def _stop(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._forget()
        self._link = None

    async def _run(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                async with aclosing(self._source()) as items:
                    # The daemon replays its last items: keeping ours would show them twice.
                    self._forget()
                    async for item in items:
                        pause_s = RETRY_FIRST_S
                        self._say(connected=True)
                        self._deliver(item)
                error = "the daemon ended the stream"
            except ClientError as gone:
                error = str(gone)
            self._forget()
            self._say(connected=False, error=error)
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MOST_S, pause_s * 2)

    def _deliver(self, item: Any) -> None:
        self.latest = item
        encoded = frame(self._kind, item, replaces=self._replaces)
        self._kept.append(encoded)
        for reader in self._readers:
            reader.put(encoded)

    def _forget(self) -> None:
        self.latest = None
        self._kept.clear()

    def _say(self, *, connected: bool, error: str | None = None) -> None:
        if not self._reports_link:
            return
        link = frame("link", {"connected": connected, "error": error}, replaces=True)
        if link == self._link:
            return
        self._link = link
        for reader in self._readers:
            reader.put(link)
