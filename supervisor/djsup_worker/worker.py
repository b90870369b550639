"""A worker, from the fork (or the exec) to its last message: puts the loop's parts together.

The story: make the loop, ask the health question, open the doors, say Ready, serve. It ends with a
Drain from the daemon, with SIGTERM, or ``orphan_grace_s`` after the daemon itself is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

from djsup_worker import https, leaving, mount, rests
from djsup_worker.access import Access
from djsup_worker.balance import Balance
from djsup_worker.departure import Departure, Intake
from djsup_worker.ear import Ear
from djsup_worker.ending import end, watch
from djsup_worker.health import HealthQuestion
from djsup_worker.limits import SECOND_NS, Limits
from djsup_worker.link import Link
from djsup_worker.loop import Listener, Loop
from djsup_worker.messages import (
    AccessLog,
    Boot,
    Drain,
    Drained,
    Leaving,
    NewCertificates,
    NewLimits,
    Ready,
    Route,
    Unhealthy,
    send,
    shorten,
)  # fmt: skip
from djsup_worker.orphan import Search, silence
from djsup_worker.sampler import Sampler
from djsup_worker.scoreboard import RowWriter, open_words
from djsup_worker.sharing import Sharing
from djsup_worker.timeouts import TIMEOUT_SIGNAL
from djsup_worker.trust import Trust
from djsup_worker.wsgi import complain

if TYPE_CHECKING:
    from djsup_worker.application import Application
    from djsup_worker.ear import Heard
    from djsup_worker.messages import Message
    from djsup_worker.tls import Certificates

UNHEALTHY = 4
"""Exit status of a worker whose health question was not answered as expected."""
STACKS_SIGNAL = signal.SIGRTMIN + 3
REHEARSED = 204
JOIN_S = 0.02
"""How long this worker's own threads may take to end."""


@dataclass(frozen=True)
class Descriptors:
    """What Boot brought."""

    scoreboard: int
    intake: int
    listeners: List[int]
    outlet: int = -1
    """The sending end of the generation's own handover socket: for what others are to have, and for the next daemon."""
    stacks: int = -1
    """The file that the stacks of threads are written to."""


class Worker:
    """One worker process."""

    def __init__(
        self,
        boot: Boot,
        descriptors: Descriptors,
        slot: int,
        channel: socket.socket,
        application: Application,
    ) -> None:
        self._boot = boot
        self._channel = channel
        self._status = 0
        self._descriptors = descriptors
        words = open_words(descriptors.scoreboard)
        row = RowWriter(words, slot, os.getpid(), boot.generation, boot.threads)
        self._limits = Limits.from_message(boot.limits)
        self._loop = Loop(
            site=boot.site,
            application=application,
            threads=boot.threads,
            limits=self._limits,
            row=row,
            errors=sys.stderr,
            trust=Trust(boot.site, boot.trusted_proxies, proxy_protocol=boot.proxy_protocol),
        )
        self._loop.balance = Balance(words, slot)
        self._row = row
        self._access = Access(self._loop, self._tell)
        self._access.ids.trusts = self._loop.trust.trusts
        self._opened = self._rehearses = False
        self._ear = Ear(boot.site, self._loop, Sampler(), self._hear)
        self._application = application
        self._redirect = self._hsts = ""
        self._leaves_until_ns = 0
        self._loop.timeouts.tell = self._tell
        self._certificates: Optional[Certificates] = None
        if boot.tls_listeners:
            from djsup_worker.tls import Certificates  # noqa: PLC0415  # only where there is TLS

            self._certificates = Certificates()
        self._healthy_without = False
        """Whether it is healthy, and has no certificates yet."""
        self._doors = [
            self._listener(address, socket.socket(fileno=fd))
            for address, fd in zip(boot.listeners, descriptors.listeners)
        ]
        self._intake = Intake(self._loop, socket.socket(fileno=descriptors.intake))

    def _listener(self, address: str, sock: socket.socket) -> Listener:
        if address not in self._boot.tls_listeners:
            return Listener(self._loop, sock)
        from djsup_worker.tls import TlsListener  # noqa: PLC0415  # only where there is TLS

        assert self._certificates is not None
        return TlsListener(self._loop, sock, self._certificates)

    def _secure(self, sock: socket.socket, local: Tuple[str, str], peer: Tuple[str, str], name: str) -> None:
        """A connection from a shared address that is to speak TLS."""
        if self._certificates is None:
            sock.close()
            return
        from djsup_worker.tls import Names, admit  # noqa: PLC0415  # only where there is TLS

        admit(self._loop, sock, local, peer, self._certificates, Names(self._boot.hosts, name))

    def run(self) -> int:
        """Serve until the end; gives the exit status."""
        self._hear_signals()
        self._channel.setblocking(False)
        self._ear.listen(self._channel)
        boot = self._boot
        path, expected = boot.health_path, boot.health_expect
        if path is None:
            # The site is not asked. But what is done for the first time takes long: no client shall wait for that.
            self._loop.application, self._rehearses = _rehearse, True
            path, expected = "/", REHEARSED
        scheme = "https" if boot.tls_listeners else "http"
        rests.own.look()
        HealthQuestion(self._loop, path, boot.health_host, expected, self._judged, scheme).ask()
        self._loop.run()
        self._ear.stop()
        if self._loop.crew is not None:
            self._loop.crew.join(JOIN_S)
        return self._status

    # --- birth ---

    def _hear_signals(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Python runs a handler in the main thread, which may be busy for long. The number that the
        # interpreter writes to this descriptor reaches whoever polls, at once.
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._loop.wake_fd(), warn_on_full_buffer=False)
        self._loop.on_wake[signal.SIGTERM] = lambda: self._leave(self._limits.drain_timeout_s, None)
        signal.signal(TIMEOUT_SIGNAL, self._loop.timeouts.interrupt)
        with contextlib.suppress(AttributeError, OSError, ValueError, RuntimeError):
            faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)

    def _judged(self, error: Optional[str], details: str) -> None:
        if error is None:
            self._healthy()
            return
        self._status = UNHEALTHY
        self._tell(Unhealthy(error=shorten(error), traceback=shorten(details)))
        self._loop.end()

    def _healthy(self) -> None:
        if self._loop.departure is not None:
            return  # told to go before it was ready
        if self._certificates is not None and not self._certificates.there:
            self._healthy_without = True
            return
        rests.own.look()
        gc.collect()
        gc.freeze()
        for door in self._doors:
            self._loop.add_door(door)
        self._loop.add_door(self._intake)
        if self._descriptors.outlet >= 0 and self._loop.balance is not None:
            self._loop.sharing = Sharing(self._loop, self._loop.balance, self._descriptors.outlet)
        self._opened, self._rehearses = True, False
        self._arrange()
        self._let_log()
        self._row.state("serving")
        self._tell(Ready())

    # --- the daemon ---

    def _hear(self, found: Optional[Heard]) -> None:
        """The daemon has said something that the ear does not answer, or is gone."""
        if found is None:
            self._orphan()
        else:
            self.heard(*found)

    def heard(self, message: Message, fds: List[int]) -> None:
        """Do what the daemon says. The descriptors are this worker's now."""
        if isinstance(message, Drain):
            handover = socket.socket(fileno=fds.pop(0)) if fds else None
            self._leave(message.timeout_s, handover)
        elif isinstance(message, NewLimits):
            self._limits = Limits.from_message(message.limits)
            self._loop.new_limits(self._limits)
            self._arrange()
        elif isinstance(message, Route):
            if fds and not self._loop.ended:
                line = socket.socket(fileno=fds.pop(0))
                link = Link(self._loop, line, self._secure, alone=message.alone)
                if self._loop.departure is not None:
                    link.leave()  # it was to say what it still has from the router before
        elif isinstance(message, NewCertificates) and self._certificates is not None:
            self._renew(message, fds, self._certificates)
        elif isinstance(message, Leaving):
            self._leaves_until_ns = time.monotonic_ns() + int(message.for_s * SECOND_NS)
            self._arrange()
        elif isinstance(message, AccessLog):
            self._access.change(message, fds.pop(0) if fds else None)
            self._let_log()
        for fd in fds:
            os.close(fd)

    def _arrange(self) -> None:
        """Put around the application what its settings want; the health question has the boot's time limit."""
        if self._rehearses:
            return
        application = self._application
        if self._opened:
            application = self._loop.timeouts.guard(application)
        if self._boot.mount:
            application = mount.under(application, self._boot.mount)
        application = https.only(application, self._redirect, self._hsts)
        if self._leaves_until_ns and self._boot.health_path is not None:
            application = leaving.announced(application, self._boot.health_path, self._leaves_until_ns)
        self._loop.application = application

    def _let_log(self) -> None:
        """Have requests written down, if that is wanted; the health question is nobody's request."""
        self._loop.access = self._access if self._opened and self._access.wanted else None

    def _renew(self, told: NewCertificates, fds: List[int], certificates: Certificates) -> None:
        """Show other certificates from the next connection on."""
        try:
            certificates.renew(told.names, fds)
        except OSError as error:
            reason = "OpenSSL of this site's Python refuses its certificate: %s" % error
            if certificates.there:
                complain(self._boot.site, "%s; the old one is shown on" % reason)
            else:
                self._judged(reason, "")
            return
        self._redirect, self._hsts = told.redirect, told.hsts
        self._arrange()
        if self._healthy_without:
            self._healthy_without = False
            self._healthy()

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the daemon is gone: the channel's end tells as much
            send(self._channel, message)

    def _orphan(self) -> None:
        """The daemon is gone: nobody reads what is printed, and after a while nobody is coming back."""
        with contextlib.suppress(OSError):
            silence()
        Search(
            self._loop,
            self._boot.home,
            self._holdings,
            self._accepts,
            self._adopted,
            lambda: self._leave(self._limits.drain_timeout_s, None),
        ).begin(self._boot.orphan_grace_s)

    def _holdings(self) -> List[int]:
        """What another daemon needs of us; nothing once some of it is closed."""
        mine = self._descriptors
        if self._loop.departure is not None:
            return []
        return [mine.scoreboard, mine.intake, mine.outlet, mine.stacks, *mine.listeners]

    def _accepts(self) -> bool:
        return self._opened and self._loop.departure is None

    def _adopted(self, channel: socket.socket) -> None:
        """Another daemon has taken us over."""
        self._channel.close()
        self._channel = channel
        self._ear.listen(channel)
        if self._accepts():
            self._tell(Ready())  # it may have become so since it called

    # --- the end ---

    def _leave(self, timeout_s: float, handover: Optional[socket.socket]) -> None:
        if self._loop.departure is None:
            Departure(self._loop, timeout_s, handover, self._left).begin()
        elif handover is not None:
            self._loop.departure.redirect(handover)

    def _left(self, drained: Drained) -> None:
        for connection in self._loop.connections.values():
            self._access.cut(connection)
        self._access.close()
        self._tell(drained)
        if drained.cut:
            # Threads are still in the application: nothing that waits for them would end.
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            end(0)
        watch(0)


def _rehearse(_environ: Any, start_response: Any) -> List[bytes]:
    """The application of a worker's first request, where that is nobody's."""
    start_response("%d Rehearsed" % REHEARSED, [])
    return []
