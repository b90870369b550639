"""How a worker leaves: it takes nothing more in, finishes, hands idle connections over, and ends.

With a handover socket every idle connection passes through it at once, and every busy one when its
response is out and nothing of a next request was read; the receiving worker finds unread bytes in the
kernel's buffer. While the socket is full they wait here, unwatched. What a router has lent goes back to it.

Without one, answers say ``Connection: close``, and a connection that has been idle for IDLE_S is closed.
That moment is for the request that is on its way already (as nginx' keepalive_min_timeout): closing at
once would answer it with a reset. Its doors stay open for LAST_CALL_NS: while the template, which has the listeners too,
has not ended yet, whoever comes would be let in by nobody, and be reset when it has.

One message of the handover socket is one connection: the JSON object ``{"local": [host, port],
"peer": [host, port]}`` (empty strings for a Unix socket), with the connection's descriptor beside it.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import time
from array import array
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Optional, Tuple

from djsup_worker.balance import LOOK_AGAIN_SOON_NS
from djsup_worker.connection import FRESH, IDLE, LEAVING, RUNNING, WRITING
from djsup_worker.limits import SECOND_NS
from djsup_worker.loop import ACCEPT_MAX, Door, Listener, Loop
from djsup_worker.messages import Drained
from djsup_worker.scoreboard import HANDED_AT, TAKEN_AT

if TYPE_CHECKING:
    from djsup_worker.connection import Connection

IDLE_S = 1.0
LAST_CALL_NS = SECOND_NS // 2
AGAIN_NS = SECOND_NS // 50
"""When the kernel has too many descriptors in flight (ETOOMANYREFS) nothing tells when to try again."""
NOTE_MAX_BYTES = 4096
FDS = array("i")


class Departure:
    """The leaving of one worker; made when it begins."""

    def __init__(
        self,
        loop: Loop,
        timeout_s: float,
        handover: Optional[socket.socket],
        ended: Callable[[Drained], None],
    ) -> None:
        self._loop = loop
        self._handover = handover
        self._ended = ended
        self._waiting: Deque[Connection] = deque()
        self._watching = False
        self._handed_over = 0
        self._closed = 0
        self._begun = False
        self._over = False
        self._until_ns = time.monotonic_ns() + int(timeout_s * SECOND_NS)

    def begin(self) -> None:
        """Close the doors, now or soon, let the idle connections go, and set the deadline."""
        loop = self._loop
        loop.departure = self
        loop.row.state("draining")
        loop.at(self._until_ns, self._give_up)
        for link in loop.links:
            link.leave()
        if self._handover is None:
            loop.close_doors(Intake)
            loop.stays = False
            loop.shorten_idle(IDLE_S)
            loop.at(min(self._until_ns, time.monotonic_ns() + LAST_CALL_NS), self._last_call)
            return
        # What still comes in from an older generation is passed on, so the intake stays open.
        loop.close_doors(Listener)
        for connection in list(loop.connections.values()):
            self.answered(connection)
        self._begun = True
        self.one_less()

    def _last_call(self) -> None:
        """Nobody else has the listeners now, but other workers that leave: let in who waits, and close them."""
        self._loop.close_doors(Listener)
        self._begun = True
        self.one_less()

    def answered(self, connection: Connection) -> bool:
        """A connection may be idle now; whether it has left this worker."""
        if self._handover is None or self._over or not connection.leave():
            return False
        self._waiting.append(connection)
        if not self._watching:
            self._send_waiting()
        return True

    def redirect(self, handover: socket.socket) -> None:
        """Those who were to take connections over leave too: from now on this socket leads to who comes after them.

        Or there was nobody, or nobody any more: connections that have not been closed since can go there.
        """
        if self._over:
            handover.close()
            return
        alone = self._handover is None
        self._stop_waiting()
        if self._handover is not None:
            self._handover.close()
        self._handover = handover
        if self._waiting:
            self._send_waiting()
        if alone:
            self._loop.stays = True
            for connection in list(self._loop.connections.values()):
                self.answered(connection)

    def one_less(self) -> None:
        """A connection has ended: perhaps it was the last."""
        if self._loop.connections or self._loop.links or not self._begun or self._over:
            return
        self._begun = False  # what comes in now through the intake goes on at once, and comes by here
        self._loop.close_doors(Intake)
        self._begun = True
        if not self._loop.connections:
            self._end(0)

    def _send_waiting(self) -> None:
        handover = self._handover
        waiting = self._waiting
        while waiting and handover is not None:
            connection = waiting[0]
            try:
                send_connection(handover, connection)
            except BlockingIOError:
                self._wait_writable(handover)
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    self._loop.at(time.monotonic_ns() + AGAIN_NS, self._send_waiting)
                    return
                self._stay_alone()
                return
            waiting.popleft()
            self._handed_over += 1
            self._loop.row.add(HANDED_AT, 1)
            connection.left()
        self._stop_waiting()

    def _wait_writable(self, handover: socket.socket) -> None:
        if not self._watching:
            self._watching = True
            self._loop.watch(handover.fileno(), select.EPOLLOUT, lambda _mask: self._send_waiting())

    def _stop_waiting(self) -> None:
        if self._watching and self._handover is not None:
            self._watching = False
            self._loop.unwatch(self._handover.fileno())

    def _stay_alone(self) -> None:
        """Nobody takes connections over any more: leave as if there had been nobody from the beginning."""
        self._stop_waiting()
        if self._handover is not None:
            self._handover.close()
            self._handover = None
        self._loop.stays = False
        self._loop.shorten_idle(IDLE_S)
        waiting, self._waiting = self._waiting, deque()
        for connection in waiting:
            connection.come_home()

    def _give_up(self) -> None:
        """The deadline has come."""
        if self._over:
            return
        connections = list(self._loop.connections.values())
        self._end(sum(1 for each in connections if each.phase in (RUNNING, WRITING)))

    def _end(self, cut: int) -> None:
        self._over = True
        self._stop_waiting()
        for connection in list(self._loop.connections.values()):
            if connection.phase in (FRESH, IDLE, LEAVING):
                self._closed += 1
            if connection.phase != RUNNING:
                connection.close()
        self._ended(Drained(handed_over=self._handed_over, closed=self._closed, cut=cut))
        self._loop.end()


class Intake(Door):
    """The receiving end of the generation's handover socket.

    Who has the fewest connections takes as many as it is behind: they come all at once, when it has just begun to serve,
    and if they went to the others for as long as it is busy with its first requests, they would stay there.
    """

    most = ACCEPT_MAX
    look_again_ns = LOOK_AGAIN_SOON_NS

    def enter(self) -> bool:
        """Take one connection over."""
        try:
            found = receive_connection(self.sock)
        except BlockingIOError:
            return False
        except OSError:
            self.loop.pause_doors(SECOND_NS // 10)
            return False
        if found is None:
            return False
        sock, local, peer = found
        loop = self.loop
        connection = loop.add(sock, local, peer)
        connection.phase = IDLE
        loop.watch_phase(connection)
        loop.row.add(TAKEN_AT, 1)
        if loop.departure is not None:
            loop.departure.answered(connection)
        return True


def send_connection(handover: socket.socket, connection: Connection) -> None:
    """Pass a connection on.

    Raises:
        BlockingIOError: the socket is full.
        OSError: as sendmsg(2): ETOOMANYREFS, or nobody is there.
    """
    base = connection.base
    note = {
        "local": [base["SERVER_NAME"], base["SERVER_PORT"]] if connection.peer_host else ["", ""],
        "peer": [connection.peer_host, connection.peer_port],
    }
    # Not socket.send_fds: it drops its flags.
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [connection.fd]))]
    handover.sendmsg([json.dumps(note).encode()], ancillary, socket.MSG_DONTWAIT)


def receive_connection(
    intake: socket.socket,
) -> Optional[Tuple[socket.socket, Tuple[str, str], Tuple[str, str]]]:
    """Take one connection from a handover socket: it, its local address, its peer's.

    None when the message was none of ours; its descriptors are closed.

    Raises:
        BlockingIOError: none waits.
        OSError: as recvmsg(2).
    """
    # Not socket.recv_fds: it drops its flags.
    data, ancillary, _flags, _address = intake.recvmsg(
        NOTE_MAX_BYTES, socket.CMSG_SPACE(FDS.itemsize), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    )
    socks = [
        socket.socket(fileno=fd)
        for level, kind, value in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for fd in array("i", value[: len(value) - len(value) % FDS.itemsize])
    ]
    try:
        note = json.loads(data)
        local_host, local_port = note["local"]
        peer_host, peer_port = note["peer"]
        (sock,) = socks
    except (ValueError, KeyError, TypeError, RecursionError):  # the last: a thousand brackets, say
        for each in socks:
            each.close()
        return None
    return sock, (str(local_host), str(local_port)), (str(peer_host), str(peer_port))
