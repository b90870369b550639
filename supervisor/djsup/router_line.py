"""The daemon's side of the router: the channel to it, and the lines between it and the workers.

Knows what the router was told and what it has said; the process itself is the performer's, and whether there is to be
one, the core's (``core/server.py``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from djsup import descriptors
from djsup.core import events
from djsup.core.model import SiteName
from djsup.core.routes import routing_of
from djsup.router import orders
from djsup.router.orders import Figures
from djsup.shell import heirloom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from djsup.core.events import Event
    from djsup.core.model import Address, Settings
    from djsup.shell.sockets import Listeners


DRAINED_KEPT = 1024
MESSAGES_AT_ONCE = 64
"""Then others have their turn."""
EARLIER = -1
"""Among the numbers of routers: one that an earlier program of the daemon has started."""


class RouterLine:
    """What connects the daemon, the router and the workers. ``tell`` puts an event into the daemon's queue."""

    def __init__(self, home: Path, listeners: Listeners, tell: Callable[[Event], None]) -> None:
        self.home = home
        """Where the next daemon asks the router for what it has."""
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
        self._unsaid: deque[tuple[dict[str, Any], list[int]]] = deque()
        """What the channel did not take yet. The descriptors are ours."""
        self._is_last = False
        """Whether the router that runs was told that there will be no other."""
        self._drained: deque[int] = deque(maxlen=DRAINED_KEPT)
        """Workers that have ended, and left nothing undone: a router may not have lived to hear what they said last."""
        self.has_elder = False
        """Whether a router of an earlier daemon may live, which did not answer."""
        self.vault: socket.socket | None = None
        """A copy of the router's line to its vault: with it the next router goes on."""

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
        self._is_last = False
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
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        loop.remove_writer(self._channel)
        self._channel.close()
        self._channel = None
        for _, fds in self._unsaid:
            for fd in fds:
                os.close(fd)
        self._unsaid.clear()
        for name, figures in self._figures.items():
            self._before[name] = figures.plus(self._before.get(name) or Figures())
        self._figures.clear()

    def end(self) -> None:
        """The router is told to end, and there will be no other."""
        self._say({"kind": "end"})
        self._is_last = True
        self.take_vault(None)

    def take_vault(self, line: socket.socket | None) -> None:
        """Keep this line to a vault; None: none."""
        if self.vault is not None:
            self.vault.close()
        self.vault = line

    def _say(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Say something, now or when the router listens. The descriptors are the caller's."""
        if self._channel is None:
            return
        if not self._unsaid:
            try:
                orders.send(self._channel, message, fds)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._channel, self._say_the_rest)
            except OSError:
                return  # it is gone: the process' end tells
            else:
                return
        self._unsaid.append((message, [os.dup(fd) for fd in fds or ()]))

    def _say_the_rest(self) -> None:
        channel = self._channel
        while channel is not None and self._unsaid:
            message, fds = self._unsaid[0]
            try:
                orders.send(channel, message, fds)
            except BlockingIOError:
                return
            except OSError:
                pass  # as in _say
            self._unsaid.popleft()
            for fd in fds:
                os.close(fd)
        if channel is not None:
            asyncio.get_running_loop().remove_writer(channel)

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
            self._say(message, fds)
        finally:
            os.close(memory)

    def bound(self, address: Address) -> None:
        """A listener is bound that may be the router's."""
        if self._settings is not None and address in self._settings.shared:
            self.tell_routing()

    def connect(self, site: SiteName, name: int) -> socket.socket | None:
        """A line from the router to a worker of a site; the worker's end. None: there is no router.

        ``name`` is one that no other worker has, or has had.
        """
        if self._channel is None:
            return None
        routers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with routers:
            self._say({"kind": "worker", "site": site, "name": name}, [routers.fileno()])
        return workers

    def tell_alive(self, names: list[int]) -> None:
        """Tell a new router which workers live, of those that the one before may have known."""
        self._say({"kind": "alive", "names": names, "drained": list(self._drained)})

    def tell_gone(self, name: int, *, drained: bool) -> None:
        """A worker has ended; ``drained`` says that it had finished all that it had."""
        if drained:
            self._drained.append(name)
        self._say({"kind": "gone", "name": name, "drained": drained})

    def figures(self, site: SiteName) -> Figures:
        """What a site's queue does now, and has done since the daemon runs."""
        now = self._figures.get(site) or Figures()
        before = self._before.get(site) or Figures()
        return now.plus(before)

    @property
    def counted(self) -> tuple[tuple[SiteName, Figures, Figures], ...]:
        """Of each site, for another program of the daemon: what routers that are gone had counted, and this one so far."""
        names = sorted({*self._before, *self._figures})
        return tuple(
            (name, self._before.get(name) or Figures(), self._figures.get(name) or Figures())
            for name in names
        )

    def count_on(self, counted: Iterable[tuple[SiteName, Figures, Figures]], last: dict[str, Any]) -> None:
        """Go on from ``counted``; ``last`` is what the router had counted as it ended, if it has said so."""
        for name, before, so_far in counted:
            raw = last.pop(name, None)
            self._before[name] = before.plus(so_far if raw is None else orders.figures_in(raw))
        for other, raw in last.items():
            self._before[SiteName(other)] = orders.figures_in(raw)

    def inherit(self, settings: Settings, counted: Iterable[tuple[SiteName, Figures, Figures]] = ()) -> None:
        """Take over what the router of an earlier daemon has, which ends: listeners, the line to its vault, figures."""
        by_name = {str(address): address for address in settings.shared}
        try:
            given, figures = heirloom.ask(self.home)
        except TimeoutError:  # it lives, and goes on one day: what it has is its own
            self.take_vault(None)
            self.has_elder = True
            given, figures = [], {}
        for name, sock in given:
            if name == heirloom.VAULT:
                self.take_vault(sock)
            elif name not in by_name or not self._listeners.adopt(by_name[name], sock):
                sock.close()
        self.count_on(counted, figures)

    def _hear(self) -> None:
        channel = self._channel
        if channel is None:
            return
        for _ in range(MESSAGES_AT_ONCE):
            try:
                found = orders.receive(channel)
            except BlockingIOError:
                return
            except ValueError:
                continue
            except OSError:
                found = None
            if found is None:
                self.close()
                return
            message, fds = found
            if message["kind"] == "vault" and fds and not self._is_last:
                with suppress(OSError):  # it is no socket
                    self.take_vault(socket.socket(fileno=fds[0]))
                    del fds[0]
            descriptors.close_all(fds)
            match message:
                case {"kind": "waiting", "site": str(site)} if self.routes(SiteName(site)):
                    self._tell(events.RequestWaiting(SiteName(site)))
                case {"kind": "figures", "sites": dict(sites)}:
                    for name, raw in sites.items():
                        self._figures[SiteName(name)] = orders.figures_in(raw)
                case _:
                    pass
