"""Signals: the handler only enqueues; what a signal means is decided where events are."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEARD = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


def listen(heard: Callable[[signal.Signals], None]) -> None:
    """Have every signal to the daemon told to ``heard``, in the loop, one at a time.

    What came while the daemon's program was replaced is told now.
    """
    loop = asyncio.get_running_loop()
    for number in HEARD:
        loop.add_signal_handler(number, heard, number)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


def stop() -> None:
    """Hear no more, and let no signal end what is about to end by itself.

    The loop, when it closes, takes away its pipe before its handlers, and would complain of a signal between;
    after it, a second SIGTERM would be a death, of a daemon that has stopped well.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
