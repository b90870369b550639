"""What is alive while pages are open: the feeds, the pages that read them, and who else to tell."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from djsup_web.feed import Feed
from djsup_web.mailbox import Mailbox, frame
from djsup_web.upstream import EVENTS_REPLAYED, LOG_LINES_REPLAYED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup_web.upstream import Upstream

PAGES_MAX = 100
"""Open streams at one time; each costs a descriptor."""
LOGS_MAX = 20
"""Sites whose logs are followed at one time; each costs a connection to the daemon."""


class TooManyPages(Exception):
    """No further stream is opened."""


class Live:
    """One feed of pictures, one of events, one of each log that somebody reads."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.snapshots = Feed("snapshot", upstream.snapshots, replaces=True, reports_link=True)
        self.events = Feed("event", upstream.events, keep=EVENTS_REPLAYED)
        self._logs: dict[str, Feed] = {}
        self._pages: set[Mailbox] = set()
        self._open: set[Mailbox] = set()

    @contextmanager
    def page(self) -> Iterator[Mailbox]:
        """A page that wants to see everything but the logs.

        Raises:
            TooManyPages: PAGES_MAX streams are open.
        """
        with self._mailbox() as mailbox, ExitStack() as stack:
            stack.enter_context(self.snapshots.joined(mailbox))
            stack.enter_context(self.events.joined(mailbox))
            self._pages.add(mailbox)
            try:
                yield mailbox
            finally:
                self._pages.discard(mailbox)

    @contextmanager
    def log(self, site: str) -> Iterator[Mailbox]:
        """A page that wants to see the log of one site.

        Raises:
            TooManyPages: PAGES_MAX streams are open.
        """
        with self._mailbox() as mailbox:
            for known in [name for name, feed in self._logs.items() if feed.idle]:
                del self._logs[known]
            feed = self._logs.get(site)
            if feed is None:
                if len(self._logs) >= LOGS_MAX:
                    raise TooManyPages(f"the logs of {LOGS_MAX} sites are being followed; close some")
                feed = Feed("log", lambda: self._upstream.log(site), keep=LOG_LINES_REPLAYED)
                self._logs[site] = feed
            with feed.joined(mailbox):
                yield mailbox

    def tell_progress(self, site: str, text: str) -> None:
        """Tell every page how far a running action is."""
        progress = frame("progress", {"site": site, "text": text})
        for page in self._pages:
            page.put(progress)

    async def close(self) -> None:
        """End every stream."""
        for mailbox in self._open:
            mailbox.close()
        await asyncio.gather(*(feed.close() for feed in (self.snapshots, self.events, *self._logs.values())))

    def latest(self) -> Any:
        """The newest picture that the pages were sent, None when no page is open or the daemon is away."""
        return self.snapshots.latest

    @contextmanager
    def _mailbox(self) -> Iterator[Mailbox]:
        if len(self._open) >= PAGES_MAX:
            raise TooManyPages(f"{PAGES_MAX} live pages are open; close some")
        mailbox = Mailbox()
        self._open.add(mailbox)
        try:
            yield mailbox
        finally:
            self._open.discard(mailbox)
