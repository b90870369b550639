"""The handover sockets of generations: draining workers send connections in, the workers of the heir take them out.

Knows sockets and who comes after whom; the daemon owns them all, so that a connection under way outlives any worker.

A generation that has an heir and no worker left that stays (``desert``) may still be sent connections: by a worker
that is busy, and has not read yet that it is to hand over to somebody else. Nobody would take them out, and their
clients would wait for ever. So they are passed on to the heir here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, TypeAlias

from djsup import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.model import Generation, SiteName

Key: TypeAlias = "tuple[SiteName, Generation]"

PASSED_ON_MAX = 64
"""Connections that are passed on before the daemon looks at other things."""
AGAIN_S = 0.02
"""The heir's socket is full, or the kernel has too many descriptors in flight: nothing tells when to try again."""
MESSAGE_MAX_BYTES = 4096


class Handovers:
    """One handover socket a generation."""

    def __init__(self) -> None:
        self._pairs: dict[Key, tuple[socket.socket, socket.socket]] = {}
        self._heirs: dict[Key, Key] = {}
        self._passages: dict[Key, Passage] = {}

    def _pair(self, site: SiteName, generation: Generation) -> tuple[socket.socket, socket.socket]:
        key = (site, generation)
        if key not in self._pairs:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in pair:
                end.setblocking(False)
            self._pairs[key] = pair
        return self._pairs[key]

    def adopt(
        self, site: SiteName, generation: Generation, intake: socket.socket, outlet: socket.socket
    ) -> bool:
        """Take both ends over from a process that an earlier daemon has left; False: they are no pair of sockets."""
        if (site, generation) in self._pairs or not all(_is_handover(end) for end in (intake, outlet)):
            return False
        self._pairs[site, generation] = (intake, outlet)
        return True

    def held(self) -> list[tuple[SiteName, Generation, int, int]]:
        """What another program of the daemon needs: each generation's receiving and sending end."""
        return [(*key, intake.fileno(), outlet.fileno()) for key, (intake, outlet) in self._pairs.items()]

    @property
    def heirs(self) -> list[tuple[SiteName, Generation, Generation]]:
        """Who gets whose connections, as ``succeed`` was told."""
        return [(site, generation, heir) for (site, generation), (_, heir) in self._heirs.items()]

    def __contains__(self, key: Key) -> bool:
        """Whether a generation's handover socket is open."""
        return key in self._pairs

    def receiving_end(self, site: SiteName, generation: Generation) -> int:
        """The descriptor from which the generation's workers take connections; opened when it is new."""
        return self._pair(site, generation)[0].fileno()

    def sending_end(self, site: SiteName, generation: Generation) -> int:
        """The descriptor through which a draining worker sends connections to that generation."""
        return self._pair(site, generation)[1].fileno()

    def succeed(self, site: SiteName, generation: Generation, heir: Generation) -> None:
        """The connections of a generation go to this heir from now on, which serves, and so has none itself."""
        key, to = (site, generation), (site, heir)
        self._heirs.pop(to, None)
        if passage := self._passages.pop(to, None):
            passage.stop()
        if key == to:
            return
        self._heirs[key] = to
        for earlier, its_heir in self._heirs.items():
            if its_heir == key:
                self._heirs[earlier] = to

    def has_heir(self, site: SiteName, generation: Generation) -> bool:
        """Whether another generation gets its connections."""
        return (site, generation) in self._heirs

    def desert(self, site: SiteName, generation: Generation) -> None:
        """No worker of a generation with an heir stays: what is still sent to it is passed on."""
        key = (site, generation)
        if key in self._heirs and key in self._pairs and key not in self._passages:
            self._passages[key] = Passage(self._pairs[key][0], lambda: self._outlet(key))

    def forget(self, site: SiteName, generation: Generation) -> None:
        """Close a generation's handover socket. What is in it goes to its heir; without one it is closed with it."""
        self.desert(site, generation)
        key = (site, generation)
        heir, pair = self._heirs.pop(key, None), self._pairs.pop(key, None)
        if pair is None:
            return
        intake, outlet = pair
        outlet.close()
        passage = self._passages.pop(key, None)
        if passage is None or heir is None:
            intake.close()
        else:
            passage.end(lambda: self._outlet(heir))

    def _outlet(self, key: Key | None) -> socket.socket | None:
        """Where connections for a generation, or for its heir, are sent; None: both are gone."""
        pair = None if key is None else self._pairs.get(self._heirs.get(key, key))
        return None if pair is None else pair[1]


class Passage:
    """Passes on what is sent to one generation; ``outlet`` says where to, None: nobody is there."""

    def __init__(self, intake: socket.socket, outlet: Callable[[], socket.socket | None]) -> None:
        self._intake = intake
        self._outlet = outlet
        self._held: tuple[bytes, list[int]] | None = None
        """The heir's socket had no room for it."""
        self._ends = False
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._watch()

    def end(self, outlet: Callable[[], socket.socket | None]) -> None:
        """The generation is forgotten: pass on what is there, then close its socket, which is this passage's now."""
        # Before the last look at what is in it: who sends later gets an error, and keeps its connection.
        self._intake.shutdown(socket.SHUT_RD)
        self._outlet = outlet
        self._ends = True
        if self._again is None:
            self._pass_on()

    def stop(self) -> None:
        """The generation serves again, and takes its connections itself."""
        self._loop.remove_reader(self._intake)
        if self._again is not None:
            self._again.cancel()
        if self._held is not None and not self._send(self._held):
            descriptors.close_all(self._held[1])

    def _watch(self) -> None:
        self._again = None
        self._loop.add_reader(self._intake, self._pass_on)

    def _pass_on(self) -> None:
        for _ in range(PASSED_ON_MAX):
            parcel = self._held or _receive(self._intake)
            if parcel is None:
                if self._ends:
                    self._loop.remove_reader(self._intake)
                    self._intake.close()
                return
            self._held = None if self._send(parcel) else parcel
            if self._held is not None:
                self._loop.remove_reader(self._intake)
                self._again = self._loop.call_later(AGAIN_S, self._watch)
                return

    def _send(self, parcel: tuple[bytes, list[int]]) -> bool:
        """Send one on, and be rid of it; whether that is done."""
        note, fds = parcel
        outlet = self._outlet()
        if outlet is not None and len(fds) == 1:
            try:
                socket.send_fds(outlet, [note], fds)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.ETOOMANYREFS}:
                    return False
        descriptors.close_all(fds)
        return True


def _receive(intake: socket.socket) -> tuple[bytes, list[int]] | None:
    """One message and its descriptors; None: there is none."""
    # Not socket.recv_fds: it drops its flags.
    try:
        note, ancillary, _flags, _address = intake.recvmsg(
            MESSAGE_MAX_BYTES, descriptors.ROOM, socket.MSG_CMSG_CLOEXEC
        )
    except OSError:
        return None
    fds = descriptors.in_message(ancillary)
    return (note, fds) if note or fds else None


def _is_handover(end: socket.socket) -> bool:
    try:
        return (
            end.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_UNIX
            and end.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_SEQPACKET
        )
    except OSError:
        return False
