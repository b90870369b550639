"""The daemon is gone: look for the one that is started in its place, and be adopted by it.

An orphan connects to the socket that its Boot message named, again and again until its grace is over. Whoever
listens there is a daemon, for nobody else may write into its runtime directory; who the orphan is, the daemon
asks the kernel. The connection becomes the orphan's new channel.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence

from djsup_worker.limits import SECOND_NS
from djsup_worker.messages import REVISION, Adopt, BadMessage, Drain, Orphan, receive, send

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.messages import Message

EVERY_S = 0.2
"""How often an orphan looks for a daemon: a connect(2) that fails at once."""
ADOPT_FDS = 4
"""Where standard output and error are written; where the daemon reads them."""


def call(home: str, fds: Sequence[int], *, ready: bool = False) -> Optional[socket.socket]:
    """Tell a daemon that is there what we hold; None: none is there yet."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.setblocking(False)
    try:
        channel.connect(home)
        send(channel, Orphan(ready=ready, revision=REVISION), fds)
    except OSError:
        channel.close()
        return None
    return channel


def answer(channel: socket.socket) -> Optional[Message]:
    """What the daemon says to that: Adopt (our standard output and error are new then), or Drain; None: it is gone.

    Raises:
        BlockingIOError: nothing yet.
    """
    try:
        found = receive(channel)
    except BlockingIOError:
        raise
    except BadMessage:
        raise BlockingIOError from None  # of another version, whose answer comes next
    except OSError:
        return None
    if found is None:
        return None
    message, fds = found
    if isinstance(message, Adopt) and len(fds) >= ADOPT_FDS:
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        for fd in (*fds[:2], *fds[ADOPT_FDS:]):
            os.close(fd)
        # The others stay open: writing does not fail in the moment in which this daemon is gone, too.
        return message
    for fd in fds:
        os.close(fd)
    return message if isinstance(message, Drain) else None


def silence() -> None:
    """Send standard output and error to nowhere: nobody reads them."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def wait_for_home(home: str, fds: Sequence[int], grace_s: float) -> Optional[socket.socket]:
    """For a process that has nothing else to do: the new channel; None: the grace is over, or it shall go."""
    until = time.monotonic() + grace_s
    while time.monotonic() < until:
        channel = call(home, fds)
        if channel is None:
            time.sleep(EVERY_S)
            continue
        said = _await_answer(channel, until)
        if isinstance(said, Adopt):
            channel.setblocking(True)
            return channel
        channel.close()
        if isinstance(said, Drain):
            return None
        time.sleep(EVERY_S)
    return None


def _await_answer(channel: socket.socket, until: float) -> Optional[Message]:
    waiter = select.poll()
    waiter.register(channel.fileno(), select.POLLIN)
    while waiter.poll(max(0.0, until - time.monotonic()) * 1000):
        with contextlib.suppress(BlockingIOError):
            return answer(channel)
    return None


class Search:
    """A worker's search, in its loop: it ends with ``adopted(channel)`` or with ``given_up()``, once."""

    def __init__(
        self,
        loop: Loop,
        home: str,
        holdings: Callable[[], List[int]],
        ready: Callable[[], bool],
        adopted: Callable[[socket.socket], None],
        given_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._home = home
        self._holdings = holdings
        self._ready = ready
        self._adopted = adopted
        self._given_up = given_up
        self._channel: Optional[socket.socket] = None
        self._over = False

    def begin(self, grace_s: float) -> None:
        """Look now, and again and again for so long."""
        self._loop.at(time.monotonic_ns() + int(grace_s * SECOND_NS), self._give_up)
        self._call()

    def _call(self) -> None:
        if self._over:
            return
        self._channel = call(self._home, self._holdings(), ready=self._ready())
        if self._channel is None:
            self._call_again()
        else:
            self._loop.watch(self._channel.fileno(), select.EPOLLIN, self._answered)

    def _call_again(self) -> None:
        self._loop.at(time.monotonic_ns() + int(EVERY_S * SECOND_NS), self._call)

    def _answered(self, _mask: int) -> None:
        channel = self._channel
        assert channel is not None
        with contextlib.suppress(BlockingIOError):
            said = answer(channel)
            self._hang_up(close=not isinstance(said, Adopt))
            if isinstance(said, Adopt):
                self._over = True
                self._adopted(channel)
            elif isinstance(said, Drain):
                self._give_up()
            else:
                self._call_again()

    def _hang_up(self, *, close: bool = True) -> None:
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            if close:
                self._channel.close()
            self._channel = None

    def _give_up(self) -> None:
        if not self._over:
            self._over = True
            self._hang_up()
            self._given_up()
