"""The ear: a thread that hears the daemon while all others are busy.

Requests run in the thread that polls, so a worker whose threads are all in the application polls nothing for a while.
What the daemon asks of such a worker above all others, namely what it is doing there, is answered here at once. All
else is passed on, in order, to the polling thread: what a message changes is for that thread alone.

The thread sleeps until a message comes, so it costs requests nothing.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, List, Optional, Tuple

from djsup_worker import stacks
from djsup_worker.messages import BadMessage, Profile, Stacks, receive
from djsup_worker.wsgi import complain

if TYPE_CHECKING:
    import socket

    from djsup_worker.loop import Loop
    from djsup_worker.messages import Message
    from djsup_worker.sampler import Sampler

NEWS = 255
"""What the loop is woken with: no signal has this number."""

Heard = Optional[Tuple["Message", List[int]]]
"""A message with its descriptors; None: the daemon is gone."""


class Ear:
    """Hears one channel after another; each until its other end is gone."""

    def __init__(self, site: str, loop: Loop, sampler: Sampler, heard: Callable[[Heard], None]) -> None:
        """``heard`` is called by the thread that polls."""
        self._site = site
        self._loop = loop
        self._sampler = sampler
        self._heard = heard
        self._news: Deque[Heard] = deque()
        loop.on_wake[NEWS] = self._pass_on

    def listen(self, channel: socket.socket) -> None:
        """Hear this channel, which does not block, from now on."""
        thread = threading.Thread(target=self._run, args=(channel,), name="djsup-ear", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: whoever polls hears it, when it can

            def hear(_mask: int) -> None:
                if not self._hear(channel):
                    self._loop.unwatch(channel.fileno())

            self._loop.watch(channel.fileno(), select.EPOLLIN, hear)

    def _run(self, channel: socket.socket) -> None:
        waiter = select.poll()
        waiter.register(channel.fileno(), select.POLLIN)
        while True:
            waiter.poll()
            if not self._hear(channel):
                return

    def _hear(self, channel: socket.socket) -> bool:
        """Take one message; False when there will be no more."""
        try:
            found = receive(channel)
        except BlockingIOError:
            return True
        except BadMessage as error:
            complain(self._site, "the daemon sent what this worker does not know: %s" % error)
            return True
        except OSError:
            found = None
        if found is not None:
            message, fds = found
            for fd in fds:
                os.set_inheritable(fd, False)
            if isinstance(message, Stacks):
                stacks.answer(message, fds)
                return True
            if isinstance(message, Profile) and len(fds) == 1:
                self._sampler.begin(message.seconds, message.rate, fds[0])
                return True
        self._news.append(found)
        self._loop.wake(NEWS)
        return found is not None

    def _pass_on(self) -> None:
        while self._news:
            self._heard(self._news.popleft())
