"""How connections that are kept come to be shared evenly again, when a worker has begun or ended.

The first new worker of a reload takes over all that the first old one had, and would keep them while the others have little to
do. So the one of a generation that has the most passes a connection on once it has answered on it, through
their handover socket, as a worker that leaves does (``departure``): a client notices nothing.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from djsup_worker.balance import SLACK
from djsup_worker.departure import send_connection
from djsup_worker.limits import SECOND_NS
from djsup_worker.scoreboard import HANDED_AT

if TYPE_CHECKING:
    from djsup_worker.balance import Balance
    from djsup_worker.connection import Connection
    from djsup_worker.loop import Loop

LOOK_NS = SECOND_NS // 100
LOOK_MAX_NS = SECOND_NS
"""The same while the one with the fewest connections takes nothing of what is passed on: it may be stuck."""


class Sharing:
    """The sharing of one worker, while it serves."""

    def __init__(self, loop: Loop, balance: Balance, outlet: int) -> None:
        """``outlet`` is where to pass connections on to one's own generation; it stays the caller's."""
        self._loop = loop
        self._balance = balance
        self._outlet = socket.socket(fileno=os.dup(outlet))
        self._wait_ns = LOOK_NS
        self._own, self._fewest = 0, -1
        """How many connections this one and the one with the fewest had when one was last passed on."""
        self._waits = False
        """For what comes of it: it was passed on at the last look."""
        self.look_at_ns = 0
        """When it is time to look again who has how many."""

    def answered(self, connection: Connection, now_ns: int) -> bool:
        """A connection is idle now; whether it has left this worker."""
        own, fewest, most = self._balance.standing(LOOK_NS)
        if fewest > self._fewest or (self._waits and own < self._own):
            self._wait_ns = LOOK_NS
        elif self._waits:
            self._wait_ns = min(self._wait_ns * 2, LOOK_MAX_NS)
        self._waits = False
        self.look_at_ns = now_ns + self._wait_ns
        # Not who has less than another: while the one with the fewest is stuck, all others would pass on to each other.
        if own < most or own - fewest <= SLACK or not connection.movable or not connection.leave():
            return False
        try:
            send_connection(self._outlet, connection)
        except OSError:  # the socket is full, or the kernel has too many descriptors in flight
            connection.come_home()
            return False
        self._own, self._fewest, self._waits = own, fewest, True
        self._loop.row.add(HANDED_AT, 1)
        connection.left()
        return True
