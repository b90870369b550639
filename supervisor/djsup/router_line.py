"""The daemon's side of the router: the channel to it, and the lines between it and the workers.

Knows what the router was told and what it has said; the process itself is the performer's, and whether there is to be
one, the core's (``core/router.py``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from djsup.core import events
from djsup.core.model import SiteName
from djsup.core.routes import routing_of
from djsup.router import orders
from djsup.router.orders import Figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.events import Event
    from djsup.core.model import Address, Settings
    from djsup.shell.sockets import Listeners


class RouterLine:
    """What connects the daemon, the router and the workers. ``tell`` puts an event into the daemon's queue."""

    def __init__(self, listeners: Listeners, tell: Callable[[Event], None]) -> None:
        self.number = 0
        """Of the router that runs, from 1: a worker needs one line to each."""
        self._listeners = listeners
        self._tell = tell
        self._settings: Settings | None = None
        self._closed: set[SiteName] = set()
        """Sites that somebody has stopped."""
        self._channel: socket.socket | None = None
        self._figures: dict[SiteName, Figures] = {}
        self._before: dict[SiteName, Figures] = {}
        """What routers that are gone had counted."""

    @property
    def is_open(self) -> bool:
        """Whether a router is there to be spoken to."""
        return self._channel is not None

    def adopt(self, settings: Settings) -> None:
        """Have requests routed by these settings."""
        self._settings = settings
        self.tell_routing()

    def close_route(self, site: SiteName) -> None:
        """Have the requests of a site answered 503 at once."""
        self._closed.add(site)
        self.tell_routing()

    def open_route(self, site: SiteName) -> None:
        """Have them passed on again."""
        self._closed.discard(site)
        self.tell_routing()

    def forget(self, site: SiteName) -> None:
        """It is configured no more; one of its name that comes later was not stopped."""
        self._closed.discard(site)

    def routes(self, site: SiteName) -> bool:
        """Whether a site's requests come through the router."""
        found = None if self._settings is None else self._settings.site(site)
        return found is not None and bool(found.shared)

    def open(self) -> socket.socket:
        """A channel for a new router; its end."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        self.number += 1
        asyncio.get_running_loop().add_reader(ours, self._hear)
        self.tell_routing()
        return theirs

    def close(self) -> None:
        """The router is gone."""
        if self._channel is None:
            return
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._channel = None
        for name, figures in self._figures.items():
            before = self._before.setdefault(name, Figures())
            before.routed += figures.routed
            before.waited += figures.waited
            before.waited_s += figures.waited_s
            before.turned_away += figures.turned_away
        self._figures.clear()

    def tell_routing(self) -> None:
        """Tell the router what goes where, and give it the listeners that are bound."""
        if self._channel is None or self._settings is None:
            return
        settings = self._settings
        bound = [address for address in settings.shared if address in self._listeners]
        memory = orders.memory_of(routing_of(settings, self._closed).to_json())
        message = {
            "kind": "routing",
            "listeners": [str(address) for address in bound],
            "tls": [str(address) for address in settings.shared_tls],
        }
        try:
            fds = [memory, *(self._listeners.fileno(address) for address in bound)]
            with suppress(OSError):  # it is gone: the process' end tells
                orders.send(self._channel, message, fds)
        finally:
            os.close(memory)

    def bound(self, address: Address) -> None:
        """A listener is bound that may be the router's."""
        if self._settings is not None and address in self._settings.shared:
            self.tell_routing()

    def connect(self, site: SiteName) -> socket.socket | None:
        """A line from the router to a worker of a site; the worker's end. None: there is no router."""
        if self._channel is None:
            return None
        routers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            orders.send(self._channel, {"kind": "worker", "site": site}, [routers.fileno()])
        except OSError:
            workers.close()
            return None
        finally:
            routers.close()
        return workers

    def figures(self, site: SiteName) -> Figures:
        """What a site's queue does now, and has done since the daemon runs."""
        now = self._figures.get(site) or Figures()
        before = self._before.get(site) or Figures()
        return Figures(
            now.queued,
            now.routed + before.routed,
            now.waited + before.waited,
            now.waited_s + before.waited_s,
            now.turned_away + before.turned_away,
        )

    def _hear(self) -> None:
        channel = self._channel
        while channel is not None:
            try:
                found = orders.receive(channel)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                found = None
            if found is None:
                self.close()
                return
            message, fds = found
            for fd in fds:
                os.close(fd)
            match message:
                case {"kind": "waiting", "site": str(site)} if self.routes(SiteName(site)):
                    self._tell(events.RequestWaiting(SiteName(site)))
                case {"kind": "figures", "sites": dict(sites)}:
                    for name, raw in sites.items():
                        self._figures[SiteName(name)] = Figures(**raw)
                case _:
                    pass
