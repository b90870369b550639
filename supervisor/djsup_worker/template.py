"""A template: it has imported the application, serves nothing, and forks workers when the daemon asks.

It forks twice, so that the worker becomes a child of the daemon (a child subreaper) and the template
has nothing to wait for. In the worker this module's part ends with the daemon's Welcome.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, List, NoReturn, Tuple

from djsup_worker import rests, stacks
from djsup_worker.ending import end
from djsup_worker.messages import BadMessage, Fork, ForkFailed, Hello, Stacks, Welcome, receive, send
from djsup_worker.orphan import silence, wait_for_home

if TYPE_CHECKING:
    from djsup_worker.messages import Boot, Message

FORK_FDS = 5
"""The channel; where standard output and error are written; where the daemon reads them."""
WELCOME_S = 60.0


@dataclass(frozen=True)
class Birth:
    """What a forked worker begins with."""

    slot: int
    channel: socket.socket
    pipes: List[int]
    """The ends that the daemon reads from: while somebody holds them, writing does not fail."""
    told: List[Tuple[Message, List[int]]] = field(default_factory=list)
    """What the daemon said up to its Welcome, with the descriptors."""


class Template:
    """A loaded application, waiting to be forked. ``work(birth)`` is the rest of a worker's life; gives its status."""

    def __init__(
        self,
        boot: Boot,
        channel: socket.socket,
        holdings: List[int],
        work: Callable[[Birth], int],
    ) -> None:
        self._site = boot.site
        self._home = boot.home
        self._orphan_grace_s = boot.orphan_grace_s
        self._channel = channel
        self._holdings = holdings
        self._work = work

    def run(self) -> int:
        """Fork whatever is asked for, until the daemon is gone and no other comes; gives the exit status."""
        while True:
            self._obey()
            # An orphan: a daemon that is started again may want it. Nobody reads what it prints.
            with contextlib.suppress(OSError):
                silence()
            channel = wait_for_home(self._home, self._holdings, self._orphan_grace_s)
            if channel is None:
                return 0
            self._channel.close()
            self._channel = channel

    def _obey(self) -> None:
        """Do what one daemon says, until it is gone."""
        while True:
            try:
                found = receive(self._channel)
            except BadMessage as error:
                sys.stderr.write(
                    'site "%s": the daemon sent what this template does not know: %s\n' % (self._site, error)
                )
                continue
            except OSError:
                found = None
            if found is None:
                break
            message, fds = found
            for fd in fds:
                os.set_inheritable(fd, False)
            if isinstance(message, Fork) and len(fds) >= FORK_FDS:
                self._fork(message, fds)
            elif isinstance(message, Stacks):
                stacks.answer(message, fds)
            else:
                for fd in fds:
                    os.close(fd)

    def _fork(self, message: Fork, fds: List[int]) -> None:
        try:
            child = os.fork()
        except OSError as error:
            self._failed(message, error)
        else:
            if child == 0:
                self._fork_again(message, fds)
            with contextlib.suppress(ChildProcessError):  # the application may have SIGCHLD ignored
                os.waitpid(child, 0)
        for fd in fds:
            os.close(fd)

    def _failed(self, message: Fork, error: OSError) -> None:
        with contextlib.suppress(OSError):
            send(self._channel, ForkFailed(proc=message.proc, error="fork: %s" % error.strerror))

    def _fork_again(self, message: Fork, fds: List[int]) -> NoReturn:
        """In the child between template and worker."""
        status = 1
        try:
            rests.own.look()
            try:
                child = os.fork()
            except OSError as error:
                self._failed(message, error)
                os._exit(0)
            if child:
                os._exit(0)
            rests.own.look()
            self._channel.close()
            channel = socket.socket(fileno=fds[0])
            os.dup2(fds[1], 1)
            os.dup2(fds[2], 2)
            for fd in (*fds[1:3], *fds[FORK_FDS:]):
                os.close(fd)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            send(channel, Hello())
            told: List[Tuple[Message, List[int]]] = []
            if _welcomed(channel, told):
                status = self._work(Birth(message.slot, channel, fds[3:FORK_FDS], told))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  # nothing of the template's may go on in its child
            sys.excepthook(*sys.exc_info())
        _exit(status)


def _welcomed(channel: socket.socket, told: List[Tuple[Message, List[int]]]) -> bool:
    """Wait for the daemon's answer to Hello; False when it is gone. ``told`` gets what it has said."""
    waiter = select.poll()
    waiter.register(channel.fileno(), select.POLLIN)
    while waiter.poll(WELCOME_S * 1000):
        try:
            found = receive(channel)
        except BadMessage:
            continue  # of another version
        except OSError:
            return False
        if found is None:
            return False
        for fd in found[1]:
            os.set_inheritable(fd, False)
        told.append(found)  # the Welcome, too: it may have brought something along
        if isinstance(found[0], Welcome):
            return True
    return False


def _exit(status: int) -> NoReturn:
    """End a forked worker as the interpreter ends: exit functions, buffers; but not the template's frames."""
    import atexit  # noqa: PLC0415  # only here
    import threading  # noqa: PLC0415

    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # as Py_FinalizeEx does
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001  # as above
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    end(status)
