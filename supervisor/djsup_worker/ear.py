"""The ear: who hears the daemon; while all threads are busy, a thread of its own.

Whoever polls hears the channel, among all else that is ready. But requests run in the thread that polls, so a worker
whose threads are all in the application polls nothing for a while. What the daemon asks of such a worker above all
others, namely what it is doing there, is answered at once by a second listener, which sleeps until a message comes and
so costs requests nothing. All else it leaves to the polling thread, for what a message changes is for that thread
alone; where that does not take a message in time, it is put aside, so that the next can be heard.

Rule: messages are acted on in the order in which they came, but for those that are answered at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from djsup_worker import stacks
from djsup_worker.messages import BadMessage, Profile, Stacks, receive
from djsup_worker.wsgi import complain

if TYPE_CHECKING:
    from djsup_worker.loop import Loop
    from djsup_worker.messages import Message
    from djsup_worker.sampler import Sampler

NEWS = 255
"""What the loop is woken with: no signal has this number."""
PATIENCE_S = 0.05
"""How long the polling thread has to take a message that is for it."""
AT_ONCE = tuple(b'{"kind": "%s"' % kind.__name__.encode() for kind in (Stacks, Profile))
"""How messages begin that are answered at once (``messages.encode``)."""

Heard = Tuple["Message", List[int]]
"""A message with its descriptors."""


class Ear:
    """Hears one channel after another, each until its other end is gone."""

    def __init__(
        self, site: str, loop: Loop, sampler: Sampler, heard: Callable[[Optional[Heard]], None]
    ) -> None:
        """``heard`` is called by the thread that polls; with None when the daemon is gone."""
        self._site = site
        self._loop = loop
        self._sampler = sampler
        self._heard = heard
        self._aside: List[Heard] = []
        self._taking = threading.Lock()
        """Held while a message is taken from the channel and, where that has to be, put aside."""
        self._stopped = threading.Event()
        self._channel: Optional[socket.socket] = None
        self._thread: Optional[threading.Thread] = None
        loop.on_wake[NEWS] = self._pass_on

    def listen(self, channel: socket.socket) -> None:
        """Hear this channel, which does not block, from now on."""
        self._loop.watch(channel.fileno(), select.EPOLLIN, lambda _mask: self._ready(channel))
        own = channel.dup()  # the other may be closed, and its number be another's, before the thread looks
        thread = threading.Thread(target=self._run, args=(own,), name="djsup-ear", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: whoever polls hears all, when it can
            own.close()
            return
        self._channel, self._thread = channel, thread

    def stop(self) -> None:
        """Hear nothing more; called when nobody polls any more."""
        self._stopped.set()
        if self._channel is not None and self._thread is not None:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RD)
            self._thread.join(PATIENCE_S * 2)

    # --- the thread that polls ---

    def _ready(self, channel: socket.socket) -> None:
        with self._taking:
            aside, self._aside = self._aside, []
            try:
                found = self._take(channel)
                gone = False
            except EOFError:
                found, gone = None, True
        for each in aside:
            self._heard(each)
        if found is not None and isinstance(found[0], (Stacks, Profile)):
            self._answer(*found)
        elif found is not None:
            self._heard(found)
        if gone and not self._stopped.is_set():
            self._loop.unwatch(channel.fileno())
            self._heard(None)

    def _pass_on(self) -> None:
        with self._taking:
            aside, self._aside = self._aside, []
        for each in aside:
            self._heard(each)

    # --- the thread of its own ---

    def _run(self, channel: socket.socket) -> None:
        waiter = select.poll()
        waiter.register(channel.fileno(), select.POLLIN)
        with channel:
            while True:
                waiter.poll()
                try:
                    head = channel.recv(64, socket.MSG_PEEK)
                except BlockingIOError:
                    continue  # whoever polls was quicker
                except OSError:
                    return
                if not head:
                    return
                if not head.startswith(AT_ONCE):
                    self._stopped.wait(PATIENCE_S)
                with self._taking:
                    try:
                        found = self._take(channel)
                    except EOFError:
                        return
                    if found is None:
                        continue
                    own = isinstance(found[0], (Stacks, Profile))
                    if not own:
                        self._aside.append(found)
                # Without the lock: to write may take a while.
                if own:
                    self._answer(*found)
                else:
                    self._loop.wake(NEWS)

    # --- both ---

    def _take(self, channel: socket.socket) -> Optional[Heard]:
        """One message; None: there is none now, or none that is known.

        Raises:
            EOFError: there will be no more.
        """
        try:
            found = receive(channel)
        except BlockingIOError:
            return None
        except BadMessage as error:
            complain(self._site, "the daemon sent what this worker does not know: %s" % error)
            return None
        except OSError:
            found = None
        if found is None:
            raise EOFError
        for fd in found[1]:
            os.set_inheritable(fd, False)
        return found

    def _answer(self, message: Message, fds: List[int]) -> None:
        if isinstance(message, Stacks):
            stacks.answer(message, fds)
        elif isinstance(message, Profile) and fds:
            self._sampler.begin(message.seconds, message.rate, fds.pop(0))
            for fd in fds:
                os.close(fd)
