"""The story of a router's process: ``python -m djsup.router``, started and supervised by the daemon.

Gives up the daemon's rights, then does what the daemon says on its channel, until SIGTERM. When the daemon is gone it
routes on for a while: the workers serve, too. A daemon that is started again asks for the listeners at the router's own
socket, and starts a router of its own; this one ends then, with the last request that it has passed on.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

from djsup.core.model import SiteName
from djsup.core.routes import Routing
from djsup.router import orders
from djsup.router.loop import Loop
from djsup.shell.heirloom import give

GONE = 0


class Router:
    """One router's process."""

    def __init__(self, channel: socket.socket, home: socket.socket, grace_s: float) -> None:
        self._channel = channel
        self._home = home
        self._grace_s = grace_s
        self._loop = Loop(self._call)
        self._loop.every_second = self._tell_figures
        self._told: dict[str, object] = {}
        self._listeners: list[tuple[str, socket.socket]] = []
        self._leaving = False

    def run(self) -> int:
        """Route until the end; the exit status."""
        wake_in, wake_out = socket.socketpair()
        for each in (wake_in, wake_out, self._channel):
            each.setblocking(False)
        signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.watch(wake_in.fileno(), lambda _mask: self._signalled(wake_in.recv(64)))
        self._loop.watch(self._channel.fileno(), self._hear)
        self._loop.run()
        self._loop.turn_all_away()
        self._loop.close()
        return GONE

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGALRM in numbers:
            self._loop.ended = True

    # --- the daemon ---

    def _hear(self, _mask: int) -> None:
        try:
            found = orders.receive(self._channel)
        except BlockingIOError:
            return
        if found is None:
            self._orphan()
            return
        message, fds = found
        if message["kind"] == "routing":
            self._loop.adopt(Routing.from_json(orders.value_in(fds.pop(0))))
            self._told.clear()
            self._listen(message["listeners"], message["tls"], fds)
        elif message["kind"] == "worker":
            self._loop.add_worker(SiteName(message["site"]), socket.socket(fileno=fds.pop(0)))

    def _listen(self, addresses: list[str], tls: list[str], fds: list[int]) -> None:
        socks = [socket.socket(fileno=fd) for fd in fds]
        self._listeners = list(zip(addresses, socks, strict=True))
        self._loop.listen([(sock, address in tls) for address, sock in self._listeners])

    def _call(self, site: SiteName) -> None:
        self._say({"kind": "waiting", "site": site})

    def _tell_figures(self) -> None:
        changed = {}
        for name, site in self._loop.sites.items():
            figures = orders.as_json(site.figures)
            if self._told.get(name) != figures:
                self._told[name] = changed[name] = figures
        if changed:
            self._say({"kind": "figures", "sites": changed})
        if self._leaving:
            self._loop.ended = not self._loop.has_work
            self._loop.stay_awake()

    def _say(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # the daemon is gone: the channel's end tells; or busy: figures come again
            orders.send(self._channel, message)

    def _orphan(self) -> None:
        """The daemon is gone. The next one may call within the grace."""
        self._loop.unwatch(self._channel.fileno())
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        for fd in (1, 2):
            os.dup2(nowhere, fd)
        self._home.setblocking(False)
        self._loop.watch(self._home.fileno(), self._called)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self._grace_s))

    def _called(self, _mask: int) -> None:
        if give(self._home, self._listeners):
            self._loop.give_up_listeners()
            self._leaving = True
            self._loop.stay_awake()


def main() -> int:
    """Run the router; gives the exit status."""
    own = os.environ
    channel = socket.socket(fileno=int(own["DJSUP_ROUTER_FD"]))
    home = socket.socket(fileno=int(own["DJSUP_ROUTER_HOME_FD"]))
    for each in (channel, home):
        os.set_inheritable(each.fileno(), False)
    if "DJSUP_ROUTER_UID" in own:
        gid = int(own["DJSUP_ROUTER_GID"])
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        uid = int(own["DJSUP_ROUTER_UID"])
        os.setresuid(uid, uid, uid)
    return Router(channel, home, float(own["DJSUP_ROUTER_GRACE"])).run()


if __name__ == "__main__":
    sys.exit(main())
