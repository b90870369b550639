"""The end of everything, asked for: announced on the health paths for ``stop_delay``, then begun.

Meanwhile all goes on as before, reloads too, and a load balancer sends its next requests elsewhere. What the end
itself is, draining and killing, the fleet decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djsup.core.events import StopAsked

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.events import Event
    from djsup.core.model import Settings
    from djsup.performer import Performer


class Farewell:
    """When the fleet is told to stop. ``tell`` puts an event into the daemon's queue."""

    def __init__(self, performer: Performer, tell: Callable[[Event], None]) -> None:
        self._performer = performer
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def delay_s(self, settings: Settings | None, *, at_once: bool) -> float:
        """How long after being asked now the end would begin. Asked again, it begins without waiting any longer."""
        return 0.0 if at_once or settings is None or self._timer is not None else settings.stop_delay_s

    def ask(self, by: str, settings: Settings | None, *, at_once: bool = False) -> None:
        """Announce the end and have it begin, or have it begin."""
        delay_s = self.delay_s(settings, at_once=at_once)
        if delay_s == 0 or settings is None:
            if self._timer is not None:
                self._timer.cancel()
            self._tell(StopAsked(by, at_once))
            return
        drain_s = max((site.limits.drain_timeout_s for site in settings.sites), default=0.0)
        self._performer.announce_stop(delay_s + drain_s)
        text = f"djsup stops in {delay_s:g} s; until then the health paths answer 503, and all else is served"
        self._performer.say("stop-announced", text)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tell, StopAsked(by))
