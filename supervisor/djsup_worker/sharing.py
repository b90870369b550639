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
"""The same while nobody takes what was passed on: who has the fewest connections may be stuck."""


class Sharing:
    """The sharing of one worker, while it serves."""

    def __init__(self, loop: Loop, balance: Balance, outlet: int) -> None:
        """``outlet`` is where to pass connections on to one's own generation; it stays the caller's."""
        self._loop = loop
        self._balance = balance
        self._outlet = socket.socket(fileno=os.dup(outlet))
        self._wait_ns = LOOK_NS
        self._passed_on_at = 0
        """The surplus when it last passed one on; 0: it did not."""
        self.look_at_ns = 0
        """When it is time to look again who has how many."""

    def answered(self, connection: Connection, now_ns: int) -> bool:
        """A connection is idle now; whether it has left this worker."""
        surplus = self._balance.surplus(LOOK_NS)
        nobody_took_it = self._passed_on_at and surplus >= self._passed_on_at
        self._wait_ns = min(self._wait_ns * 2, LOOK_MAX_NS) if nobody_took_it else LOOK_NS
        self._passed_on_at = 0
        self.look_at_ns = now_ns + self._wait_ns
        if surplus <= SLACK or not connection.movable or not connection.leave():
            return False
        try:
            send_connection(self._outlet, connection)
        except OSError:  # the socket is full, or the kernel has too many descriptors in flight
            connection.come_home()
            return False
        self._passed_on_at = surplus
        self._loop.row.add(HANDED_AT, 1)
        connection.left()
        return True
