"""The story of a router's process: ``python -m djsup.router``, started and supervised by the daemon.

Gives up the daemon's rights, then does what the daemon says on its channel, until SIGTERM. When the daemon is gone it
routes on for a while: the workers serve, too. A daemon that is started again asks for the listeners and for the line to
the vault at the router's own socket, and starts a router of its own; this one ends at once.

However it ends, the next router finds all connections in the vault; but if the daemon has said that there will be none.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from djsup import descriptors
from djsup.core.model import SiteName
from djsup.core.routes import Routing
from djsup.router import orders, vault
from djsup.router.loop import Loop
from djsup.router.vault import Vault
from djsup.shell import heirloom
from djsup_worker.messages import REVISION

GONE = 0
OTHER_REVISION = 3
"""Exit status of a router that speaks otherwise than the workers that the daemon has."""
VAULT_PAUSE_S = 1.0
"""A vault that dies sooner than this is not started again at once."""


class Router:
    """One router's process."""

    def __init__(
        self, channel: socket.socket, home: socket.socket, grace_s: float, line: socket.socket | None = None
    ) -> None:
        """``line`` leads to the vault that a router before has used."""
        self._line = line
        self._channel = channel
        self._home = home
        self._grace_s = grace_s
        self._loop = Loop(self._call)
        self._loop.every_second = self._every_second
        self._loop.vault_lost = self._lost_vault
        self._vault: Vault | None = None
        self._vault_at = 0.0
        self._vault_is_told = False
        self._told: dict[str, object] = {}
        self._listeners: list[tuple[str, socket.socket]] = []
        self._routes = False
        """Whether it knows what goes where."""
        self._is_last = False
        """Whether no other router will come."""

    def run(self) -> int:
        """Route until the end; the exit status."""
        wake_in, wake_out = socket.socketpair()
        for each in (wake_in, wake_out, self._channel):
            each.setblocking(False)
        signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a vault that has died is to leave nothing behind
        self._loop.watch(wake_in.fileno(), lambda _mask: self._signalled(wake_in.recv(64)))
        self._loop.watch(self._channel.fileno(), self._hear)
        gc.collect()
        gc.freeze()  # to look through it again takes milliseconds, for which requests would wait
        self._loop.run()
        if self._is_last or self._end_was_said() or self._vault is None:
            self._loop.turn_all_away()
            self._loop.close()
        else:
            self._loop.leave()
        return GONE

    def _end_was_said(self) -> bool:
        """Whether the daemon has said, just before SIGTERM, that no other router will come."""
        with suppress(OSError, ValueError):
            while found := orders.receive(self._channel):
                message, fds = found
                descriptors.close_all(fds)
                if message["kind"] == "end":
                    return True
        return False

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGALRM in numbers:  # nobody has come within the grace
            self._is_last = True
        if signal.SIGTERM in numbers or signal.SIGALRM in numbers:
            self._loop.ended = True

    # --- the vault ---

    def _open_vault(self) -> None:
        """Have a vault: the one of a router before, or else a new one."""
        kept: list[vault.Kept] = []
        line, self._line = self._line, None
        self._vault_at = time.monotonic()
        if line is not None:
            try:
                self._vault, kept = Vault.take_over(line)
            except OSError as error:
                sys.stderr.write(f"connections that an earlier router had are lost: {error}\n")
                line.close()
        if self._vault is None:
            try:
                self._vault = vault.start(self._loop.clients_max)
            except OSError as error:
                sys.stderr.write(f"connections would not outlive this router: {error}\n")
                self._loop.stay_awake()  # to try again
                return
        self._loop.keep_in(self._vault, kept)
        self._vault_is_told = False
        self._tell_vault()

    def _lost_vault(self) -> None:
        self._vault = None
        if time.monotonic() - self._vault_at >= VAULT_PAUSE_S:
            self._open_vault()
        self._loop.stay_awake()

    def _tell_vault(self) -> None:
        """Give the daemon a copy of the line."""
        if self._vault is not None and not self._vault_is_told:
            with suppress(OSError):  # the channel is full, or its end tells: the next second comes
                orders.send(self._channel, {"kind": "vault"}, [self._vault.line.fileno()])
                self._vault_is_told = True
            self._loop.stay_awake()

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
        try:
            self._obey(message, fds)
        finally:
            descriptors.close_all(fds)

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        """Do what the daemon says. Descriptors that are taken are taken out of ``fds``."""
        if message["kind"] == "routing":
            self._loop.adopt(Routing.from_json(orders.value_in(fds.pop(0))))
            self._told.clear()
            if not self._routes:
                self._routes = True  # what the vault has can be served now
                self._open_vault()
            self._listen(message["listeners"], message.get("tls", []), fds)
        elif message["kind"] == "worker":
            site, name = SiteName(message["site"]), message["name"]
            self._loop.add_worker(site, socket.socket(fileno=fds.pop(0)), name)
        elif message["kind"] == "alive":
            self._loop.keep_only(set(message["names"]), set(message.get("drained", [])))
        elif message["kind"] == "gone":
            self._loop.forget_worker(message["name"], drained=message.get("drained", False))
        elif message["kind"] == "end":
            self._is_last = True

    def _listen(self, addresses: list[str], tls: list[str], fds: list[int]) -> None:
        socks = [socket.socket(fileno=fds.pop(0)) for _ in addresses]
        self._listeners = list(zip(addresses, socks, strict=True))
        self._loop.listen([(sock, address in tls) for address, sock in self._listeners])

    def _call(self, site: SiteName) -> None:
        self._say({"kind": "waiting", "site": site})

    def _every_second(self) -> None:
        if self._vault is None and self._routes:
            self._open_vault()
        self._tell_vault()
        self._tell_figures()

    def _tell_figures(self) -> None:
        changed = {}
        for name, site in self._loop.sites.items():
            figures = orders.as_json(site.figures)
            if self._told.get(name) != figures:
                self._told[name] = changed[name] = figures
        if changed:
            self._say({"kind": "figures", "sites": changed})

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
        given = list(self._listeners)
        if self._vault is not None:
            given.append((heirloom.VAULT, self._vault.line))
        asker = heirloom.give(self._home, given)
        if asker is None:
            return
        # Whoever has asked waits until we are gone: from here on all that we had is another's.
        if self._vault is not None:
            self._loop.leave()
        else:
            self._loop.close()
        with suppress(OSError):
            figures = {name: orders.as_json(site.figures) for name, site in self._loop.sites.items()}
            heirloom.say_last(asker, figures)
        os._exit(GONE)


def main() -> int:
    """Run the router; gives the exit status."""
    own = os.environ
    channel = socket.socket(fileno=int(own["DJSUP_ROUTER_FD"]))
    home = socket.socket(fileno=int(own["DJSUP_ROUTER_HOME_FD"]))
    line = socket.socket(fileno=int(own["DJSUP_ROUTER_VAULT_FD"])) if "DJSUP_ROUTER_VAULT_FD" in own else None
    for each in (channel, home, line):
        if each is not None:
            os.set_inheritable(each.fileno(), False)
    if own["DJSUP_ROUTER_REVISION"] != str(REVISION):
        sys.stderr.write(
            "djsup was installed anew, and speaks otherwise with workers than this daemon's: djsup upgrade\n"
        )
        return OTHER_REVISION
    if "DJSUP_ROUTER_UID" in own:
        gid = int(own["DJSUP_ROUTER_GID"])
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        uid = int(own["DJSUP_ROUTER_UID"])
        os.setresuid(uid, uid, uid)
    return Router(channel, home, float(own["DJSUP_ROUTER_GRACE"]), line).run()


if __name__ == "__main__":
    sys.exit(main())
