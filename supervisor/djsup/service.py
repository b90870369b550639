"""What the service manager is told: ready, reloading, stopping, how it stands, and that we live.

Follows the sites' states and decides nothing. The protocol is sd_notify(3), as Type=notify-reload wants it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from djsup.core.snapshot import SiteState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from djsup.core.model import Address
    from djsup.core.snapshot import SiteSnapshot
    from djsup.shell.notify import Notify

MOVING = {SiteState.STARTING, SiteState.RELOADING}
"""States that pass by themselves."""
STORED = "djsup-"
"""What the names of stored descriptors begin with."""
NAMED_MAX = 5
"""Sites that a status line names."""


class Service:
    """The daemon as a service."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._ready: bool | None = False
        """None: it stops, and will not be ready again."""
        self._status = ""
        self._kept: set[str] = set()

    def look(self, outline: Callable[[], Sequence[SiteSnapshot]]) -> None:
        """Something may have changed: say how it stands, and that it is ready once nothing moves."""
        if not self._notify:
            return
        sites = outline()
        if self._ready is False and not any(site.state in MOVING for site in sites):
            self._ready = True
            self._notify.say("READY=1")
        if (status := _status(sites)) != self._status:
            self._status = status
            self._notify.say(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; ``look`` says when that is over."""
        if self._ready is not None:
            self._ready = False
            self._notify.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Everything is told to end."""
        self._ready = None
        self._notify.say("STOPPING=1")

    def keep(self, address: Address, fd: int) -> None:
        """Have a listener kept, so that clients queue at it while we are dead."""
        self._kept.add(stored_name(address))
        self._notify.say("FDSTORE=1", f"FDNAME={stored_name(address)}", "FDPOLL=0", fds=(fd,))

    def keep_on(self, addresses: Iterable[Address]) -> None:
        """These are kept already, by another program of the daemon."""
        self._kept |= {stored_name(address) for address in addresses}

    @property
    def variables(self) -> dict[str, str]:
        """What another program of the daemon finds the service manager by."""
        return self._notify.variables

    def drop(self, address: Address) -> None:
        """A listener is closed, so it is not to be kept either."""
        self._kept.discard(stored_name(address))
        self._notify.say("FDSTOREREMOVE=1", f"FDNAME={stored_name(address)}")

    def drop_names(self, names: Iterable[str]) -> None:
        """These were kept for an earlier daemon; those that we do not use are not kept on."""
        for name in names:
            if name not in self._kept:
                self._notify.say("FDSTOREREMOVE=1", f"FDNAME={name}")

    async def show_life(self) -> None:
        """Say that we live, twice as often as is wanted; a loop that is stuck does not."""
        while self._notify.watchdog_s is not None:
            self._notify.say("WATCHDOG=1")
            await asyncio.sleep(self._notify.watchdog_s / 2)

    def say_again(self) -> None:
        """Say what the service manager had no room for; called once a second."""
        self._notify.flush()


def stored_name(address: Address) -> str:
    """An address as the name of a stored descriptor: no colon, at most 255 characters (sd_pid_notify_with_fds(3))."""
    return STORED + str(address).replace(":", "_")[-240:]


def _status(sites: Sequence[SiteSnapshot]) -> str:
    well = {SiteState.SERVING, SiteState.SLEEPING}
    others = [f"{site.name} {site.state.value}" for site in sites if site.state not in well]
    line = f"{len(sites) - len(others)} of {len(sites)} sites serve"
    more = [f"and {len(others) - NAMED_MAX} more"] if len(others) > NAMED_MAX else []
    return "; ".join([line, *others[:NAMED_MAX], *more])
